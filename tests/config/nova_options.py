"""Every option that the installed Nova's compute service knows, registered with oslo.config.

Used by compare.py.  As a program it prints base/conf_other.def: the options that are known to Nova
and are no row of base/conf.def:

    tests/config/nova_options.py IMPLEMENTED > base/conf_other.def

where IMPLEMENTED is a file with the output of 'conf_dump --table'.
"""
import importlib
import json
import os
import re
import sys
from importlib import metadata

os.environ.setdefault('EVENTLET_NO_GREENDNS', 'yes')

from oslo_config import cfg, types  # noqa: E402

# Where options come from: what nova-compute imports, and what the sample file of Nova lists.
MODULES = (
    'nova.cmd.compute', 'nova.compute.manager', 'nova.virt.libvirt.driver', 'nova.service',
    'nova.rpc', 'nova.notifications.base', 'nova.servicegroup.api', 'nova.image.glance',
    'oslo_concurrency.lockutils', 'oslo_concurrency.processutils', 'oslo_service.periodic_task',
    'oslo_service.service', 'keystonemiddleware.auth_token')
# The entry points with these names, or beginning with oslo (without oslo.config's own).
LISTS = ('keystonemiddleware.auth_token', 'os_brick', 'os_vif', 'osprofiler')
AUTH_TYPES = ('password', 'v3applicationcredential', 'v3token', 'admin_token')
# Groups of services other than compute: setting them is not worth a word.
ELSEWHERE = {
    'api', 'api_database', 'barbican', 'barbican_service_user', 'cache', 'conductor', 'console',
    'consoleauth', 'cors', 'database', 'filter_scheduler', 'healthcheck', 'hyperv', 'ironic',
    'key_manager', 'keystone_authtoken', 'metrics', 'mks', 'nova_sys_admin', 'oslo_limit',
    'oslo_messaging_amqp', 'oslo_messaging_kafka', 'oslo_middleware', 'oslo_policy', 'oslo_reports',
    'placement_database', 'privsep', 'profiler', 'quota', 'rdp', 'remote_debug', 'scheduler',
    'ssl', 'vault', 'vendordata_dynamic_auth', 'vmware', 'wsgi', 'zvm',
    'privsep_osbrick', 'vif_plug_linux_bridge_privileged', 'vif_plug_ovs_privileged'}
ELSEWHERE_OPTIONS = {
    'allow_resize_to_same_host', 'cert', 'config_file', 'config_dir', 'config_source',
    'conn_pool_min_size', 'conn_pool_ttl', 'daemon', 'default_schedule_zone', 'enabled_apis',
    'enabled_ssl_apis', 'internal_service_availability_zone', 'key', 'max_local_block_devices',
    'metadata_listen', 'metadata_listen_port', 'metadata_workers', 'migrate_max_retries',
    'osapi_compute_listen', 'osapi_compute_listen_port', 'osapi_compute_unique_server_name_scope',
    'osapi_compute_workers', 'pybasedir', 'record', 'rootwrap_config', 'source_is_ipv6', 'ssl_only',
    'use_rootwrap_daemon', 'api_paste_config', 'client_socket_timeout', 'fatal_deprecations',
    'max_header_line', 'tcp_keepidle', 'wsgi_default_pool_size', 'wsgi_keep_alive',
    'wsgi_log_format', 'wsgi_server_debug', 'run_external_periodic_tasks', 'web', 'novncproxy_host', 'novncproxy_port', 'vencrypt_ca_certs',
    'vencrypt_client_cert', 'vencrypt_client_key', 'auth_schemes', 'html5proxy_host',
    'html5proxy_port', 'serialproxy_host', 'serialproxy_port'}


def register(conf, opts, group):
    for opt in opts:
        opt.required = False  # keystoneauth registers its options too late for that check.
        try:
            conf.register_opt(opt, group=None if group == 'DEFAULT' else group)
        except cfg.DuplicateOptError:
            pass


def load():
    """The global ConfigOpts with everything registered, not called yet."""
    import nova.conf
    import nova.config
    from keystoneauth1 import loading
    from oslo_log import log
    conf = cfg.CONF
    log.register_options(conf)
    nova.config.set_lib_defaults()
    for module in MODULES:
        importlib.import_module(module)
    for entry in metadata.entry_points(group='oslo.config.opts'):
        if entry.name in LISTS or (entry.name.startswith('oslo.') and entry.name != 'oslo.config'):
            for group, opts in entry.load()():
                register(conf, opts, str(group) if group else 'DEFAULT')
    import os_vif
    os_vif.initialize()
    for group in list(conf._groups):
        if 'auth_type' in conf._groups[group]._opts:
            for auth_type in AUTH_TYPES:
                register(conf, loading.get_auth_plugin_conf_options(auth_type), group)
    return conf


def auth_options():
    """Names of the options that keystoneauth reads from the group that auth_section names."""
    from keystoneauth1 import loading
    return {opt.dest for opts in [loading.get_auth_common_conf_options()] +
            [loading.get_auth_plugin_conf_options(t) for t in AUTH_TYPES] for opt in opts}


def options(conf):
    """Yields (group, name, Opt, default)."""
    for info, group in conf._all_opt_infos():
        opt = info['opt']
        yield (group.name if group else 'DEFAULT', opt.dest, opt, info.get('default', opt.default))


def kind(opt):
    if isinstance(opt, cfg.MultiOpt):
        return 'MULTI'
    for cls, name in ((types.Boolean, 'BOOL'), (types.Integer, 'INT'), (types.Float, 'FLOAT'),
                      (types.List, 'LIST'), (types.Dict, 'DICT')):
        if isinstance(opt.type, cls):
            return name
    return 'STR'


def default_text(value):
    """A default as it would stand in a file; None stays None."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        return ','.join(str(v) for v in value)
    if isinstance(value, dict):
        return ','.join('%s:%s' % kv for kv in value.items())
    return str(value)


def c_string(s):
    return 'NULL' if s is None else json.dumps(s)


def old_names(opt, group):
    names = []
    for old in opt.deprecated_opts:
        if old.name or old.group:
            name = (old.group or group, old.name or opt.dest)
            if name != (group, opt.dest) and name not in names:
                names.append(name)
    return names


def deprecations(opt, group):
    names = old_names(opt, group)
    return 'C_OLD(%s)' % ', '.join('{"%s", "%s"}' % n for n in names) if names else ''


def is_elsewhere(group, name):
    return group in ELSEWHERE or group.startswith('cache') or name in ELSEWHERE_OPTIONS


def print_row(*parts):
    """One row, in as many lines as 100 columns need; a long string becomes several."""
    pieces = []
    for part in parts:
        if len(part) > 85 and part.startswith('"'):
            pieces += ['"%s"' % p for p in re.findall('.{1,80}', part[1:-3])]
            pieces[-1] += ', '
        else:
            pieces += [part] if len(part) < 85 else re.sub('(}, )', r'\1\n', part).split('\n')
    line = ''
    for piece in pieces:
        if line and len(line) + len(piece) > 100:
            print(line.rstrip())
            line = '           '
        line += piece
    print(line)


def print_others(conf, known):
    """Prints base/conf_other.def; 'known' are the (group, name) of conf.def."""
    host = os.uname().nodename
    print('/* Options of Nova that are no row of conf.def, so that they can be named when they are'
          ' set:\n * CONF_OTHER(group, name, type, default, flags, old names).\n *\n'
          ' * Written by tests/config/nova_options.py; do not edit. */\n')
    print('/* clang-format off */')
    for group, name, opt, default in sorted(options(conf), key=lambda o: (o[0], o[1])):
        if (group, name) in known:
            continue
        text = default_text(default)
        if text and (text == host or 'python' in text):
            text = None  # Found out at start.
        head = 'CONF_OTHER("%s", "%s", %s, ' % (group, name, kind(opt))
        tail = '%s, %s)' % ('CONF_ELSEWHERE' if is_elsewhere(group, name) else '0',
                            deprecations(opt, group))
        print_row(head, c_string(text) + ', ', tail)


def main():
    with open(sys.argv[1]) as f:
        rows = [json.loads(line) for line in f]
    print_others(load(), {(row['group'], row['name']) for row in rows})


if __name__ == '__main__':
    main()
