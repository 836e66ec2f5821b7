"""An ML2 driver for the lab: a port whose name ends in "-tap" becomes a tap port even on a host
whose OVS has DPDK, where the openvswitch driver would make it a vhost-user port.  So one host can
carry both kinds."""
from neutron.plugins.ml2.drivers.openvswitch.mech_driver import mech_openvswitch
from neutron_lib.api.definitions import portbindings


class TapMechanismDriver(mech_openvswitch.OpenvswitchMechanismDriver):
    def bind_port(self, context):
        if context.current['name'].endswith('-tap'):
            super().bind_port(context)

    def get_vif_type(self, context, agent, segment):
        return portbindings.VIF_TYPE_OVS
