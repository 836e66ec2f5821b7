"""The requests of the corpus: what is not said is as in a plain server.

Each case: flavor (fields), specs (extra specs), image (fields and "props"), conf (text of nova.conf), inst (fields of
the server), numa (cells), vifs, bdms, rescue (an image), and what the host is said to be ("host").
"""

SOCKET = "/var/run/openvswitch/vhu%s"
IDS = ["84196ce4-7caa-410a-964e-66622605f999", "0d1dbc48-bb7c-43d0-a4a0-95be1b86e1b1",
       "5c5ca6fe-3a1d-4f8e-b3b2-6d6b3c1bb10c"]


def vif(n=0, type="ovs", vnic="normal", mtu=1450, bridge="br-int", profile=None, ips=True, **details):
    """A port as the info cache has it."""
    subnet = {"cidr": "10.0.0.0/24", "dns": [], "gateway": {"address": "10.0.0.1", "type": "gateway", "version": 4,
              "meta": {}}, "ips": [{"address": "10.0.0.%d" % (10 + n), "type": "fixed", "version": 4, "meta": {},
              "floating_ips": []}], "routes": [], "version": 4, "meta": {"dhcp_server": "10.0.0.2"}}
    subnet6 = {"cidr": "2001:db8::/64", "dns": [], "gateway": {"address": "2001:db8::1", "type": "gateway",
               "version": 6, "meta": {}}, "ips": [{"address": "2001:db8::%d" % (10 + n), "type": "fixed", "version": 6,
               "meta": {}, "floating_ips": []}], "routes": [], "version": 6, "meta": {}}
    meta = {"injected": False, "tenant_id": "11112222333344445555666677778888", "physical_network": "physnet1",
            "tunneled": False}
    if mtu:
        meta["mtu"] = mtu
    delegate = details.pop("delegate", True)
    return {"id": IDS[n], "address": "fa:16:3e:00:00:%02x" % (0x15 + n),
            "network": {"id": "a0c83ab5-0a74-4e55-a4a9-884a7685f919", "bridge": bridge, "label": "flat",
                        "subnets": ([subnet, subnet6] if n else [subnet]) if ips else [], "meta": meta},
            "type": type, "details": dict({"port_filter": False}, **details), "devname": "tap" + IDS[n][:11],
            "ovs_interfaceid": IDS[n] if type == "ovs" or details.get("vhostuser_ovs_plug") else None,
            "qbh_params": None, "qbg_params": None, "active": True, "vnic_type": vnic, "profile": profile or {},
            "preserve_on_delete": False, "delegate_create": delegate, "meta": {}}


def vhu(n=0, mode="server", **kw):
    return vif(n, "vhostuser", vhostuser_mode=mode, vhostuser_ovs_plug=True, datapath_type="netdev",
               vhostuser_socket=SOCKET % IDS[n][:11], **kw)


def cell(id, cpus=(), pcpus=(), memory=1024, page=None, pins=None, policy=None, threads=None, reserved=None):
    """A NUMA cell of a server; 'pins' are {guest CPU: host CPU}."""
    return dict(id=id, cpuset=set(cpus), pcpuset=set(pcpus), memory=memory, pagesize=page,
                cpu_pinning_raw={str(k): v for k, v in pins.items()} if pins else None,
                cpu_policy=policy, cpu_thread_policy=threads, cpuset_reserved=set(reserved) if reserved else None)


QEMU = "[libvirt]\nvirt_type = qemu\n"
POOLS = "[compute]\ncpu_shared_set = 0-3,8-11\ncpu_dedicated_set = 4-7,12-15\n"
PINNED = [cell(0, pcpus=[0, 1, 2, 3], pins={0: 4, 1: 5, 2: 6, 3: 7}, policy="dedicated", memory=2048)]
MACVTAP = dict(macvtap_source="eth1", macvtap_mode="vepa", physical_interface="eth1")
SCSI = {"hw_disk_bus": "scsi", "hw_scsi_model": "virtio-scsi"}
UEFI = {"hw_firmware_type": "uefi"}
KERNEL = dict(kernel_id="2f6f3e2f-7b4e-4e4e-9d4c-111111111111", ramdisk_id="2f6f3e2f-7b4e-4e4e-9d4c-222222222222")


def bdm(source="blank", to="local", **kw):
    return dict(source_type=source, destination_type=to, **kw)


CASES = {
    # Plain ones, and how their disks are kept.
    "plain": dict(vifs=[vhu()]),
    "plain-qemu": dict(conf=QEMU, vifs=[vif()]),
    "no-direct-io": dict(host=dict(direct_io=False)),
    "raw-image": dict(image=dict(disk_format="raw"), conf="[libvirt]\nimages_type = raw\n"),
    "flat-qcow2": dict(conf="[DEFAULT]\nuse_cow_images = false\nforce_raw_images = false\n",
                       host=dict(flat_format="qcow2")),
    "preallocated": dict(conf="[DEFAULT]\npreallocate_images = space\n[libvirt]\nhw_disk_discard = unmap\n"),
    "preallocated-writeback": dict(conf="[DEFAULT]\npreallocate_images = space\n"
                                        "[libvirt]\ndisk_cachemodes = file=writeback\n"),
    "cache-modes": dict(conf="[libvirt]\ndisk_cachemodes = file=directsync,network=writeback,file=never\n"),
    "iso": dict(image=dict(disk_format="iso")),
    "booted-from-volume-named": dict(inst=dict(image_ref="")),
    "instance-name": dict(conf="[DEFAULT]\ninstance_name_template = vm-%(uuid)s\n",
                          image=dict(props={"hw_qemu_guest_agent": "yes"})),
    "instance-name-number": dict(conf="[DEFAULT]\ninstance_name_template = guest-%d-x%%\n"),
    "disk-quotas": dict(specs={"quota:disk_read_bytes_sec": "10240000", "quota:disk_write_iops_sec": "500",
                               "quota:disk_total_bytes_sec_max": "9"}),
    "disk-quotas-total": dict(flavor=dict(swap=64), specs={"quota:disk_total_iops_sec": "1000",
                              "quota:disk_total_bytes_sec": "1000000"}),
    "scsi": dict(image=dict(props=SCSI), flavor=dict(swap=512), inst=dict(config_drive="True")),
    "scsi-lsi": dict(image=dict(props={"hw_disk_bus": "scsi", "hw_scsi_model": "lsiLogic"})),
    "sata-usb": dict(image=dict(props={"hw_disk_bus": "sata", "hw_cdrom_bus": "usb"}), inst=dict(config_drive="True")),
    "usb-disk-ps2": dict(image=dict(props={"hw_disk_bus": "usb"}), conf="[DEFAULT]\npointer_model = ps2mouse\n"),
    "ide-old-adapter": dict(image=dict(props={"vmware_adaptertype": "ide"})),
    "disk-prefix": dict(conf="[libvirt]\ndisk_prefix = xvd\n", flavor=dict(ephemeral_gb=1, swap=64)),
    "ephemeral-and-swap": dict(flavor=dict(ephemeral_gb=10, swap=1024), inst=dict(config_drive="True")),
    "config-drive-vfat": dict(conf="[DEFAULT]\nconfig_drive_format = vfat\n", inst=dict(config_drive="True")),
    "config-drive-q35": dict(image=dict(props={"hw_machine_type": "q35"}), inst=dict(config_drive="True")),
    "mappings": dict(inst=dict(root_device_name="/dev/vda"), bdms=[
        bdm("image", device_name="/dev/vda", boot_index=0, disk_bus="virtio", device_type="disk"),
        bdm(volume_size=2, guest_format="ext4", boot_index=-1), bdm(volume_size=1, device_name="/dev/sdb",
            disk_bus="scsi", boot_index=-1), bdm(volume_size=256, guest_format="swap", device_name="/dev/vdb")]),
    "mappings-odd": dict(inst=dict(root_device_name="/dev/sda", config_drive="True"), bdms=[
        bdm("image", boot_index=0, disk_bus="sata", device_type="disk"),
        bdm(volume_size=2, device_type="cdrom", disk_bus="ide"), bdm(volume_size=3, disk_bus="xen",
            device_name="/dev/hdc"), bdm(no_device=True, device_name="/dev/vdx")]),
    "swap-takes-the-name": dict(flavor=dict(ephemeral_gb=5), inst=dict(root_device_name="/dev/vda"), bdms=[
        bdm("image", device_name="/dev/vda", boot_index=0), bdm(volume_size=256, guest_format="swap",
            device_name="/dev/vdb")]),

    # Machine types and CPUs.
    "machine-conf": dict(conf="[libvirt]\nhw_machine_type = x86_64=q35,i686=pc\nnum_pcie_ports = 4\n"),
    "machine-image-version": dict(image=dict(props={"hw_machine_type": "pc-q35-7.2"}),
                                  conf="[libvirt]\nnum_pcie_ports = 2\n"),
    "i686": dict(image=dict(props={"architecture": "i386"})),
    "cpu-none": dict(conf="[libvirt]\ncpu_mode = none\ncpu_model_extra_flags = aes\n"),
    "cpu-passthrough": dict(conf="[libvirt]\ncpu_mode = host-passthrough\ncpu_model_extra_flags = PCID,+ssbd,-mtrr\n"),
    "cpu-custom": dict(conf="[libvirt]\ncpu_mode = custom\ncpu_models = nehalem,haswell-notsx\n"),
    "cpu-custom-traits": dict(conf="[libvirt]\ncpu_mode = custom\ncpu_models = Nehalem,Haswell-noTSX\n",
                              specs={"trait:HW_CPU_X86_AVX2": "required", "trait1:HW_CPU_X86_BMI": "required",
                                     "trait:HW_CPU_X86_VMX": "required", "trait:CUSTOM_X": "required",
                                     "trait:HW_CPU_X86_AVX512F": "forbidden"}),
    "topology-flavor": dict(flavor=dict(vcpus=8), specs={"hw:cpu_sockets": "2", "hw:cpu_threads": "2"}),
    "topology-image-wins": dict(flavor=dict(vcpus=8), specs={"hw:cpu_sockets": "8"},
                                image=dict(props={"hw_cpu_cores": "4"})),
    "topology-limits": dict(flavor=dict(vcpus=12), specs={"hw:cpu_max_sockets": "2", "hw:cpu_max_threads": "1"}),
    "topology-lower-limits": dict(flavor=dict(vcpus=6), specs={"hw:cpu_max_sockets": "4", "hw:cpu_sockets": "3"},
                                  image=dict(props={"hw_cpu_max_sockets": "2"})),
    "float-over-shared-set": dict(conf=POOLS),
    "float-over-vcpu-pin-set": dict(conf="[DEFAULT]\nvcpu_pin_set = 1-14,^8\n"),
    "cpu-quotas": dict(specs={"quota:cpu_shares": "2048", "quota:cpu_period": "10000", "quota:cpu_quota": "-1"}),

    # NUMA, pins, pages.
    "numa-two-floating": dict(flavor=dict(vcpus=4, memory_mb=2048), specs={"hw:numa_nodes": "2"},
                              numa=[cell(0, [0, 1]), cell(1, [2, 3])]),
    "numa-other-node": dict(flavor=dict(vcpus=2), numa=[cell(1, [0, 1])], conf=POOLS),
    "pinned": dict(flavor=dict(vcpus=4, memory_mb=2048), specs={"hw:cpu_policy": "dedicated"}, numa=PINNED, conf=POOLS),
    "pinned-threads-isolate": dict(flavor=dict(vcpus=2), specs={"hw:cpu_policy": "dedicated",
                                   "hw:cpu_thread_policy": "isolate"}, conf=POOLS,
                                   numa=[cell(1, pcpus=[0, 1], pins={0: 12, 1: 13}, policy="dedicated",
                                              threads="isolate")]),
    "mixed": dict(flavor=dict(vcpus=4), specs={"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "2-3"}, conf=POOLS,
                  numa=[cell(0, [0, 1], [2, 3], pins={2: 5, 3: 6}, policy="mixed")]),
    "mixed-two-nodes": dict(flavor=dict(vcpus=4), specs={"hw:cpu_policy": "mixed"}, conf=POOLS,
                            numa=[cell(0, [0], [1], pins={1: 5}, policy="mixed", memory=512),
                                  cell(1, [2], [3], pins={3: 12}, policy="mixed", memory=512)]),
    "emulator-isolate": dict(flavor=dict(vcpus=2), specs={"hw:cpu_policy": "dedicated",
                             "hw:emulator_threads_policy": "isolate"}, conf=POOLS, emulator="isolate",
                             numa=[cell(0, pcpus=[0, 1], pins={0: 4, 1: 5}, policy="dedicated", reserved=[6])]),
    "emulator-share": dict(flavor=dict(vcpus=2), specs={"hw:cpu_policy": "dedicated",
                           "hw:emulator_threads_policy": "share"}, conf=POOLS, emulator="share",
                           numa=[cell(0, pcpus=[0, 1], pins={0: 4, 1: 5}, policy="dedicated")]),
    "emulator-share-no-pool": dict(flavor=dict(vcpus=2), specs={"hw:emulator_threads_policy": "share"},
                                   emulator="share", conf="[compute]\ncpu_dedicated_set = 4-7\n",
                                   numa=[cell(0, pcpus=[0, 1], pins={0: 4, 1: 5}, policy="dedicated")]),
    "realtime": dict(flavor=dict(vcpus=4, memory_mb=2048), numa=PINNED, conf=POOLS +
                     "[libvirt]\nrealtime_scheduler_priority = 7\n",
                     specs={"hw:cpu_policy": "dedicated", "hw:cpu_realtime": "yes", "hw:cpu_realtime_mask": "^0-1"}),
    "realtime-image-mask": dict(flavor=dict(vcpus=4, memory_mb=2048), numa=PINNED, conf=POOLS,
                                image=dict(props={"hw_cpu_realtime_mask": "2-3"}),
                                specs={"hw:cpu_realtime": "true", "hw:cpu_realtime_mask": "^0"}),
    "realtime-all-isolated": dict(flavor=dict(vcpus=2), conf=POOLS, emulator="isolate",
                                  specs={"hw:cpu_realtime": "true", "hw:emulator_threads_policy": "isolate"},
                                  numa=[cell(0, pcpus=[0, 1], pins={0: 4, 1: 5}, policy="dedicated", reserved=[7])]),
    "hugepages": dict(flavor=dict(vcpus=2), specs={"hw:mem_page_size": "2048"}, numa=[cell(0, [0, 1], page=2048)],
                      vifs=[vhu()]),
    "hugepages-per-node": dict(flavor=dict(vcpus=4, memory_mb=3072), specs={"hw:mem_page_size": "large"},
                               numa=[cell(0, [0, 1], page=1048576, memory=2048), cell(1, [2, 3], page=2048)],
                               vifs=[vhu(), vhu(1)]),
    "small-pages": dict(specs={"hw:mem_page_size": "small"}, numa=[cell(0, [0], page=4)]),
    "hugepages-locked": dict(specs={"hw:mem_page_size": "2MB", "hw:locked_memory": "True"},
                             numa=[cell(0, [0], page=2048)]),
    "locked-by-image": dict(image=dict(props={"hw_locked_memory": "yes", "hw_mem_page_size": "1GB"}),
                            numa=[cell(1, [0], page=1048576)]),
    "file-backed": dict(conf="[libvirt]\nfile_backed_memory = 1024\n", vifs=[vhu()]),
    "file-backed-numa": dict(conf="[libvirt]\nfile_backed_memory = 1024\n", numa=[cell(0, [0])]),

    # Ports.
    "no-ports": dict(vifs=[]),
    "vhostuser-client": dict(vifs=[vhu(mode="client")]),
    "vhostuser-sizes": dict(flavor=dict(vcpus=4), specs={"hw:vif_multiqueue_enabled": "true"}, vifs=[vhu(), vif(1)],
                            conf="[libvirt]\nrx_queue_size = 1024\ntx_queue_size = 512\n"),
    "vhostuser-other-backend": dict(vifs=[vif(type="vhostuser", vhostuser_socket="/run/snabb.sock")]),
    "ovs-tap": dict(vifs=[vif()]),
    "ovs-bridge": dict(vifs=[vif(delegate=False, bridge="br-ex")]),
    "ovs-hybrid": dict(vifs=[vif(ovs_hybrid_plug=True), vif(1, ovs_hybrid_plug=True, delegate=False)]),
    "linux-bridge": dict(vifs=[vif(type="bridge", bridge="brqa0c83ab5-0a")]),
    "no-mtu": dict(vifs=[vif(mtu=None), vif(1, delegate=False, mtu=None)]),
    "bandwidth": dict(vifs=[vif(), vhu(1)], specs={"quota:vif_inbound_average": "100", "quota:vif_inbound_peak": "200",
                      "quota:vif_inbound_burst": "50", "quota:vif_outbound_average": "80",
                      "quota:vif_outbound_burst": "9"}),
    "bandwidth-peak-only": dict(vifs=[vif()], specs={"quota:vif_outbound_peak": "200"}),
    "multiqueue-image": dict(flavor=dict(vcpus=4), image=dict(props={"hw_vif_multiqueue_enabled": "true"}),
                             vifs=[vif()], conf="[libvirt]\nmax_queues = 2\n"),
    "multiqueue-old-kernel": dict(flavor=dict(vcpus=16), specs={"hw:vif_multiqueue_enabled": "true"}, vifs=[vif()],
                                  host=dict(kernel="3.10.0")),
    "multiqueue-one-cpu": dict(specs={"hw:vif_multiqueue_enabled": "true"}, vifs=[vif()]),
    "multiqueue-qemu": dict(conf=QEMU + "rx_queue_size = 512\n", flavor=dict(vcpus=2),
                            specs={"hw:vif_multiqueue_enabled": "true"}, vifs=[vif(), vhu(1)]),
    "model-e1000": dict(image=dict(props={"hw_vif_model": "VirtualE1000"}), vifs=[vif()],
                        conf="[libvirt]\nrx_queue_size = 512\n"),
    "model-none": dict(vifs=[vif(), vhu(1)], conf="[libvirt]\nuse_virtio_for_bridges = false\n"),
    "sriov-direct": dict(vifs=[vif(type="hw_veb", vnic="direct", profile={"pci_slot": "0000:81:00.1"}, vlan="100")],
                         specs={"quota:vif_inbound_average": "100"}),
    "sriov-macvtap": dict(vifs=[vif(type="hw_veb", vnic="macvtap", profile={"pci_slot": "0000:81:00.2"}, vlan="7")],
                          host=dict(pci_names={"0000:81:00.2": "ens1f2"})),
    "sriov-physical": dict(vifs=[vif(type="hostdev_physical", vnic="direct-physical",
                                     profile={"pci_slot": "0000:81:00.0"})]),
    "ovs-offload": dict(vifs=[vif(vnic="direct", profile={"pci_slot": "0000:81:00.3", "capabilities": ["switchdev"]})]),
    "ovs-remote-managed": dict(vifs=[vif(vnic="remote-managed", profile={"pci_slot": "0000:81:00.4"})]),
    "vdpa": dict(vifs=[vif(vnic="vdpa", profile={"pci_slot": "0000:81:00.5"})],
                 conf="[libvirt]\nrx_queue_size = 512\ntx_queue_size = 512\n",
                 host=dict(pci_names={"0000:81:00.5": "/dev/vhost-vdpa-0"})),
    "macvtap-agent": dict(vifs=[vif(type="macvtap", vnic="macvtap", **MACVTAP)]),
    "tap-type": dict(vifs=[vif(type="tap")]),
    "pci-alias": dict(pci=[("0000:06:12.7", "alias"), ("0000:81:00.1", None)]),

    # Consoles and other devices.
    "no-screen": dict(conf="[vnc]\nenabled = false\n"),
    "spice": dict(conf="[vnc]\nenabled = false\n[spice]\nenabled = true\nserver_listen = 192.0.2.1\n"),
    "spice-and-vnc": dict(conf="[vnc]\nserver_listen = ::\n[spice]\nenabled = true\n"),
    "spice-no-agent": dict(conf="[vnc]\nenabled = false\n[spice]\nenabled = true\nagent_enabled = false\n"),
    "serial-console": dict(conf="[serial_console]\nenabled = true\nproxyclient_address = 192.0.2.9\n"),
    "serial-consoles": dict(conf="[serial_console]\nenabled = true\n", specs={"hw:serial_port_count": "3"},
                            image=dict(props={"hw_serial_port_count": "2"})),
    "video-ram": dict(image=dict(props={"hw_video_model": "qxl", "hw_video_ram": "32"}),
                      specs={"hw_video:ram_max_mb": "64"}),
    "video-none": dict(image=dict(props={"hw_video_model": "none"})),
    "input-virtio": dict(image=dict(props={"hw_input_bus": "virtio"})),
    "input-usb-ps2": dict(image=dict(props={"hw_pointer_model": "usbtablet"}),
                          conf="[DEFAULT]\npointer_model = ps2mouse\n"),
    "ps2": dict(conf="[DEFAULT]\npointer_model = ps2mouse\n"),
    "guest-agent": dict(image=dict(props={"hw_qemu_guest_agent": "yes", "os_require_quiesce": "yes"})),
    "rng-rate": dict(specs={"hw_rng:allowed": "True", "hw_rng:rate_bytes": "1024", "hw_rng:rate_period": "1000"}),
    "rng-none": dict(specs={"hw_rng:allowed": "False"}),
    "watchdog": dict(specs={"hw:watchdog_action": "pause"}, image=dict(props={"hw_watchdog_action": "reset"})),
    "watchdog-off": dict(specs={"hw:watchdog_action": "pause"}, image=dict(props={"hw_watchdog_action": "disabled"})),
    "no-balloon": dict(conf="[libvirt]\nmem_stats_period_seconds = 0\n"),
    "iommu": dict(image=dict(props={"hw_machine_type": "q35"}), specs={"hw:viommu_model": "auto"}),
    "iommu-intel": dict(image=dict(props={"hw_machine_type": "q35", "hw_viommu_model": "intel"})),
    "perf": dict(conf="[libvirt]\nenabled_perf_events = cpu_clock,cmt,no_such_event,cache_misses\n"),
    "sysinfo-none": dict(conf="[libvirt]\nsysinfo_serial = none\n"),
    "sysinfo-hardware": dict(conf="[libvirt]\nsysinfo_serial = hardware\n"),
    "sysinfo-os": dict(conf="[libvirt]\nsysinfo_serial = os\n"),
    "owner-names": dict(sysmeta={"owner_user_name": "alice", "owner_project_name": "demo & co"},
                        inst=dict(display_name="a <server> & \"more\"")),

    # Features, clock, firmware, boot.
    "windows": dict(inst=dict(os_type="windows")),
    "windows-hidden": dict(inst=dict(os_type="windows"), specs={"hw:hide_hypervisor_id": "true"}),
    "windows-qemu": dict(inst=dict(os_type="windows"), conf=QEMU),
    "hidden-image": dict(image=dict(props={"img_hide_hypervisor_id": "yes"})),
    "no-apic": dict(conf="[workarounds]\nlibvirt_disable_apic = true\n"),
    "pmu-off": dict(specs={"hw:pmu": "False"}),
    "pmu-both": dict(specs={"hw:pmu": "yes"}, image=dict(props={"hw_pmu": "True"})),
    "hpet": dict(image=dict(props={"hw_time_hpet": "yes"})),
    "boot-menu": dict(specs={"hw:boot_menu": "true"}),
    "boot-menu-image": dict(specs={"hw:boot_menu": "true"}, image=dict(props={"hw_boot_menu": "false"})),
    "uefi": dict(image=dict(props=UEFI)),
    "uefi-q35": dict(image=dict(props=dict(UEFI, hw_machine_type="q35"))),
    "secure-boot": dict(image=dict(props=dict(UEFI, hw_machine_type="q35", os_secure_boot="required"))),
    "secure-boot-optional": dict(image=dict(props=UEFI), specs={"os:secure_boot": "optional"}),
    "kernel": dict(inst=KERNEL),
    "kernel-qemu": dict(inst=dict(KERNEL, ramdisk_id=""), conf=QEMU),
    "kernel-command-line": dict(inst=KERNEL, image=dict(props={"os_command_line": "root=/dev/vda1 quiet"})),

    # Rescues.
    "rescue": dict(rescue=dict(disk_format="qcow2", props={}), inst=dict(config_drive="True"), flavor=dict(swap=64)),
    "rescue-by-its-image": dict(rescue=dict(disk_format="qcow2", props=dict(SCSI, hw_machine_type="q35",
                                hw_vif_model="e1000")), vifs=[vif()]),
    "rescue-kernel": dict(rescue=dict(props={}, **{"kernel": "k", "ramdisk": "r"}), inst=KERNEL),
    "rescue-stable": dict(rescue=dict(disk_format="iso", props={"hw_rescue_device": "cdrom", "hw_rescue_bus": "sata"}),
                          image=dict(props={"hw_machine_type": "q35"}), flavor=dict(swap=64),
                          inst=dict(config_drive="True")),
    "rescue-stable-scsi": dict(rescue=dict(props={"hw_rescue_bus": "scsi"}), image=dict(props=SCSI)),
    "rescue-stable-cache": dict(rescue=dict(props={"hw_rescue_bus": "usb"}),
                                conf="[libvirt]\ndisk_cachemodes = file=writethrough\n"),

    # What cannot be had.
    "no-such-machine": dict(image=dict(props={"hw_machine_type": "isapc"})),
    "no-such-model": dict(conf="[libvirt]\ncpu_mode = custom\ncpu_models = Z80\n"),
    "no-model-for-traits": dict(conf="[libvirt]\ncpu_mode = custom\ncpu_models = Nehalem\n",
                                specs={"trait:HW_CPU_X86_AVX2": "required"}),
    "topology-impossible": dict(flavor=dict(vcpus=6), specs={"hw:cpu_max_sockets": "4", "hw:cpu_max_cores": "1",
                                                             "hw:cpu_max_threads": "1"}),
    "topology-image-exceeds": dict(specs={"hw:cpu_max_sockets": "2"}, image=dict(props={"hw_cpu_max_sockets": "4"})),
    "topology-wish-exceeds": dict(specs={"hw:cpu_max_cores": "2"}, image=dict(props={"hw_cpu_cores": "4"})),
    "realtime-no-mask": dict(flavor=dict(vcpus=4, memory_mb=2048), numa=PINNED, conf=POOLS,
                             specs={"hw:cpu_realtime": "true"}),
    "realtime-share-no-pool": dict(flavor=dict(vcpus=4, memory_mb=2048), numa=PINNED,
                                   specs={"hw:cpu_realtime": "true", "hw:emulator_threads_policy": "share"}),
    "pages-and-files": dict(conf="[libvirt]\nfile_backed_memory = 1024\n", numa=[cell(0, [0], page=2048)]),
    "locked-no-pages": dict(specs={"hw:locked_memory": "true"}),
    "locked-conflict": dict(specs={"hw:locked_memory": "true", "hw:mem_page_size": "2048"},
                            image=dict(props={"hw_locked_memory": "no"})),
    "quota-no-controller": dict(specs={"quota:cpu_shares": "10"}, host=dict(cpu_controller=False)),
    "pmu-conflict": dict(specs={"hw:pmu": "yes"}, image=dict(props={"hw_pmu": "no"})),
    "multiqueue-conflict": dict(flavor=dict(vcpus=2), specs={"hw:vif_multiqueue_enabled": "yes"}, vifs=[vif()],
                                image=dict(props={"hw_vif_multiqueue_enabled": "no"})),
    "vif-model-unknown": dict(image=dict(props={"hw_vif_model": "netfront"}), vifs=[vif()]),
    "vhostuser-no-socket": dict(vifs=[vif(type="vhostuser", vhostuser_ovs_plug=True)]),
    "macvtap-no-details": dict(vifs=[vif(type="macvtap", vnic="macvtap", macvtap_mode="vepa")]),
    "disk-bus-unknown": dict(image=dict(props={"hw_disk_bus": "xen"})),
    "too-many-ide": dict(image=dict(props={"hw_disk_bus": "ide"}), inst=dict(root_device_name="/dev/hda"),
                         bdms=[bdm("image", device_name="/dev/hda", boot_index=0)] + [bdm(volume_size=1)] * 4),
    "video-ram-too-much": dict(image=dict(props={"hw_video_ram": "128"}), specs={"hw_video:ram_max_mb": "64"}),
    "serial-too-many": dict(conf="[serial_console]\nenabled = true\n", specs={"hw:serial_port_count": "4"}),
    "serial-exceeds": dict(conf="[serial_console]\nenabled = true\n", specs={"hw:serial_port_count": "1"},
                           image=dict(props={"hw_serial_port_count": "2"})),
    "serial-no-number": dict(conf="[serial_console]\nenabled = true\n", specs={"hw:serial_port_count": "many"}),
    "watchdog-unknown": dict(specs={"hw:watchdog_action": "bark"}),
    "rng-missing": dict(conf="[libvirt]\nrng_dev_path = /dev/no-such-rng\n", host=dict(rng_device=False)),
    "iommu-on-pc": dict(specs={"hw:viommu_model": "intel"}),
    "secure-boot-on-pc": dict(image=dict(props=dict(UEFI, os_secure_boot="required"))),
    "secure-boot-conflict": dict(image=dict(props=dict(UEFI, os_secure_boot="disabled")),
                                 specs={"os:secure_boot": "required"}),
    "rescue-bus-unknown": dict(rescue=dict(props={"hw_rescue_bus": "xen"})),
    "tpm": dict(specs={"hw:tpm_version": "2.0"}, sysmeta={"vtpm_secret_uuid": "2f6f3e2f-7b4e-4e4e-9d4c-333333333333"}),
    "memory-encryption": dict(specs={"hw:mem_encryption": "true"}, image=dict(props=dict(UEFI, hw_machine_type="q35"))),
    "other-architecture": dict(image=dict(props={"hw_architecture": "aarch64", "hw_machine_type": "pc"})),
}
