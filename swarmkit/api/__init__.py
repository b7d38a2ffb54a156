"""The wire contract: generated messages and stubs, never edited by hand.

Use ``from swarmkit.api import messages as api`` for messages and enums, and the ``*_pb2_grpc`` modules,
imported where they are needed, for stubs and servicers: only those pull in grpc.
"""
