"""A domain like a server's, for what libvirt, QEMU and the guest take by themselves."""
import contextlib
import os
import subprocess
import xml.etree.ElementTree as ET

import cloud
from hosts import HOSTS

BARE = 'bench-bare'


def xml_like(server):
    """The domain of a server on host-a under another name, with its own disk, port and console."""
    domain = ET.fromstring(cloud.virsh('host-a', 'dumpxml', '--inactive', cloud.find(server)))
    for tag in ('uuid', 'metadata', 'sysinfo', 'seclabel'):
        for found in domain.findall(tag):
            domain.remove(found)
    domain.find('name').text = BARE
    for smbios in domain.findall('os/smbios'):
        domain.find('os').remove(smbios)
    domain.find('.//interface/mac').set('address', 'fa:16:3e:00:00:4f')
    domain.find('.//interface/source').set('path', '/run/vhost/bench-bare')
    for target in domain.findall('.//interface/target'):
        domain.find('.//interface').remove(target)
    disk = domain.find('.//disk/source')
    for attribute in ('file', 'index'):
        disk.attrib.pop(attribute, None)
    disk.set('file', f'{cloud.VAR}/bench-bare.qcow2')
    for log in domain.findall('.//devices/*/log'):
        log.set('file', f'{cloud.VAR}/bench-bare.log')
    return ET.tostring(domain, encoding='unicode')


@contextlib.contextmanager
def domain(server):
    """Defined on host-a, shut off; its port is on both hosts, its disk where both find it."""
    disk, xml = f'{cloud.VAR}/bench-bare.qcow2', f'{cloud.VAR}/bench-bare.xml'
    with open(xml, 'w') as f:
        f.write(xml_like(server))
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw', '-b',
                    f'{cloud.VAR}/guest/guest.raw', disk, '1G'], check=True)
    try:
        for h in HOSTS:
            cloud.in_host(h, 'ovs-vsctl', '--may-exist', 'add-port', 'br-int', BARE, '--', 'set',
                          'interface', BARE, 'type=dpdkvhostuserclient',
                          'options:vhost-server-path=/run/vhost/bench-bare')
        cloud.virsh('host-a', 'define', xml)
        yield BARE
    finally:
        for h in HOSTS:
            cloud.virsh(h, 'destroy', BARE, check=False)
            cloud.virsh(h, 'undefine', BARE, check=False)
            cloud.in_host(h, 'ovs-vsctl', '--if-exists', 'del-port', 'br-int', BARE, check=False)
            cloud.in_host(h, 'rm', '-f', '/run/vhost/bench-bare', check=False)
        for path in (disk, xml, f'{cloud.VAR}/bench-bare.log'):
            if os.path.exists(path):
                os.unlink(path)
