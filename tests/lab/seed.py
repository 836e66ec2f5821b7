#!/usr/bin/python3
"""Images, flavours, networks; each made only where it is missing."""
import hashlib
import sys

import openstack

guest = sys.argv[1]
conn = openstack.connect()
images = {i.name: i for i in conn.image.images()}


def image(name, path, disk_format='raw', container_format='bare', **properties):
    """The image's id; made anew if the file or what is said about it has changed."""
    with open(f'{guest}/{path}', 'rb') as f:
        md5 = hashlib.md5(f.read()).hexdigest()
    old = images.get(name)
    if old is not None and old.checksum == md5 and all(
            (old.properties or {}).get(k, getattr(old, k, None)) == v for k, v in properties.items()):
        return old.id
    if old is not None:
        conn.image.delete_image(old)
    return conn.image.create_image(
        name, filename=f'{guest}/{path}', disk_format=disk_format, container_format=container_format,
        wait=True, validate_checksum=False, visibility='public', **properties).id


for name in ('guest', 'guest-dirty', 'guest-big'):
    image(name, f'{name}.raw', hw_rng_model='virtio')
image('guest-qcow2', 'guest.qcow2', 'qcow2')
image('guest-kernel', 'root.raw', kernel_id=image('vmlinuz', 'vmlinuz', 'aki', 'aki'),
      ramdisk_id=image('initrd', 'initrd', 'ari', 'ari'), os_command_line='console=ttyS0 quiet pci=nomsi')
image('guest-agent', 'guest.qcow2', 'qcow2', hw_qemu_guest_agent='yes', os_require_quiesce='yes')
# Nothing to boot: ACTIVE at no cost, deaf to the power button
image('blank', 'blank.raw', os_shutdown_timeout='1')

flavors = {f.name for f in conn.compute.flavors()}
HUGE = {'hw:mem_page_size': 'large'}
for name, ram, more, specs in (
        ('lab.small', 128, {}, HUGE),
        ('lab.big', 384, {}, HUGE),
        ('lab.nohuge', 128, {}, {}),
        ('lab.tiny', 32, {}, HUGE),
        ('lab.disks', 128, {'ephemeral': 1, 'swap': 64}, HUGE),
        ('lab.greedy', 16384, {}, HUGE),  # more than a host has in hugepages
        ('lab.twonodes', 128, {'vcpus': 2}, {'hw:numa_nodes': '2', **HUGE})):  # a host has one
    if name not in flavors:
        f = conn.compute.create_flavor(**{'name': name, 'ram': ram, 'vcpus': 1, 'disk': 1, **more})
        if specs:
            conn.compute.create_flavor_extra_specs(f, specs)

networks = {n.name for n in conn.network.networks()}
for name, kind, physnet, seg, cidr in (
        ('flat', 'flat', 'physnet1', None, '10.98.0.0/24'),
        ('vlan100', 'vlan', 'physnet1', 100, '10.97.0.0/24'),
        ('sriov200', 'vlan', 'sriovnet1', 200, '10.96.0.0/24')):
    if name not in networks:
        net = conn.network.create_network(
            name=name, provider_network_type=kind, provider_physical_network=physnet, shared=True,
            port_security_enabled=False, **({'provider_segmentation_id': seg} if seg else {}))
        conn.network.create_subnet(network_id=net.id, name=name, cidr=cidr, ip_version=4,
                                   enable_dhcp=False, gateway_ip=None)
