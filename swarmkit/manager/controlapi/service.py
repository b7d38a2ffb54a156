"""The Control service, put together from the handlers of each kind."""

from swarmkit.api.control_pb2_grpc import ControlServicer
from swarmkit.manager.controlapi.clusters import ClustersMixin
from swarmkit.manager.controlapi.nodes import NodesMixin
from swarmkit.manager.controlapi.services import ServicesMixin
from swarmkit.manager.controlapi.tasks import TasksMixin
from swarmkit.manager.controlapi.unserved import UnservedMixin


class ControlService(NodesMixin, ServicesMixin, TasksMixin, ClustersMixin, UnservedMixin, ControlServicer):
    """Serves nodes, services, tasks and clusters; who may call is checked before it is asked."""
