"""Every message and enum of the wire contract under one name, without grpc.

``from swarmkit.api import messages as api``, then ``api.Task``, ``api.TaskState.RUNNING``,
``api.NodeSpec.DRAIN``. Name top-level enum values through their enum, never through this module.
"""

from swarmkit.api.ca_pb2 import *  # noqa: F403
from swarmkit.api.control_pb2 import *  # noqa: F403
from swarmkit.api.dispatcher_pb2 import *  # noqa: F403
from swarmkit.api.health_pb2 import *  # noqa: F403
from swarmkit.api.logbroker_pb2 import *  # noqa: F403
from swarmkit.api.objects_pb2 import *  # noqa: F403
from swarmkit.api.raft_pb2 import *  # noqa: F403
from swarmkit.api.resource_pb2 import *  # noqa: F403
from swarmkit.api.snapshot_pb2 import *  # noqa: F403
from swarmkit.api.specs_pb2 import *  # noqa: F403
from swarmkit.api.types_pb2 import *  # noqa: F403
from swarmkit.api.watch_pb2 import *  # noqa: F403
