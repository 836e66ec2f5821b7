"""What the parts of bench.py measure with: processes, the broker, the database, ping."""
import collections
import json
import os
import re
import statistics
import subprocess
import threading
import time
import uuid

import amqp
import libvirt
import pymysql

import cloud

LAB = os.path.dirname(os.path.abspath(cloud.__file__))
BROKER = f'{cloud.CTL}:5672'
TICK = os.sysconf('SC_CLK_TCK')
BASE = ('ping', 'baseapi', '1.0', {'arg': 'x'})
UPTIME = ('get_host_uptime', None, '6.0', {})
CALLS = {'ping': BASE, 'get_host_uptime': UPTIME}


def median(values):
    return statistics.median(values) if values else None


# --- processes

def tree(pid):
    """A process and all that it started."""
    found, todo = [], [int(pid)]
    while todo:
        p = todo.pop()
        found.append(p)
        try:
            for t in os.listdir(f'/proc/{p}/task'):
                with open(f'/proc/{p}/task/{t}/children') as f:
                    todo += map(int, f.read().split())
        except FileNotFoundError:
            pass
    return found


def memory(pid):
    """Sums over the tree: RSS and PSS in MiB, threads, processes."""
    total = {'rss': 0.0, 'pss': 0.0, 'threads': 0, 'processes': 0}
    for p in tree(pid):
        try:
            with open(f'/proc/{p}/smaps_rollup') as f:
                kib = dict(re.findall(r'^(\w+): +(\d+) kB', f.read(), re.M))
            total['threads'] += len(os.listdir(f'/proc/{p}/task'))
        except FileNotFoundError:
            continue
        total['rss'] += int(kib['Rss']) / 1024
        total['pss'] += int(kib['Pss']) / 1024
        total['processes'] += 1
    return total


def cpu(pid):
    """CPU seconds of the tree so far: to the nanosecond, but for children that have ended."""
    total = 0.0
    for p in tree(pid):
        try:
            with open(f'/proc/{p}/stat') as f:
                ended = f.read().rsplit(')', 1)[1].split()[13:15]
            total += time.clock_gettime((~p << 3) | 2) + sum(map(int, ended)) / TICK
        except (FileNotFoundError, OSError):
            pass
    return total


class Peak(threading.Thread):
    """The highest memory() of some processes while it runs."""

    def __init__(self, pids):
        super().__init__(daemon=True)
        self.peak = {name: memory(pid) for name, pid in pids.items()}
        self.pids, self.is_over = pids, threading.Event()

    def run(self):
        while not self.is_over.wait(.1):
            for name, pid in self.pids.items():
                for k, v in memory(pid).items():
                    self.peak[name][k] = max(self.peak[name][k], v)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *rest):
        self.is_over.set()
        self.join()


# --- a start

def launch(host, kind):
    """Starts a host's compute service, which must not run; the time of its exec."""
    stamp = f'{cloud.RUN}/bench-exec'
    script = r'''. "$1/lib.sh"
case $3 in debian) cmd=/usr/bin/nova-compute log=nova-compute ;; *) cmd=$NOVASHIM log=novashim ;; esac
ln -sfn "$log.log" "$LOG/$2/compute.log"
sed -i "s/^COMPUTE=.*/COMPUTE=$3/" "$RUN/$2/settings"
start "$2/compute" bash -c 'echo $EPOCHREALTIME >"$1"; shift; exec "$@"' - "$4" \
    nsenter -t "$(pid_of "$2/ns")" -n -m -u -- "$cmd" --config-file /etc/nova/nova.conf'''
    if os.path.exists(stamp):
        os.unlink(stamp)
    subprocess.run(['bash', '-c', script, '-', LAB, host, kind, stamp], check=True,
                   stdin=subprocess.DEVNULL)
    end = time.time() + 10
    while not (os.path.exists(stamp) and os.path.getsize(stamp) > 5):
        if time.time() > end:
            raise cloud.Failed(f'{host}: {kind} was not executed')
        time.sleep(.001)
    with open(stamp) as f:
        return float(f.read())


def time_start(host, kind):
    """Seconds from exec to consuming, and to the first report in the database."""
    db = pymysql.connect(host='127.0.0.1', user='lab', password=cloud.PASSWORD, database='nova',
                         autocommit=True)
    connection = connect()
    channel, queue = connection.channel(), f'compute.{host}'

    def reports():
        with db.cursor() as cursor:
            cursor.execute("select coalesce(max(report_count), 0) from services where host=%s and "
                           "deleted=0 and `binary`='nova-compute'", (host,))
            return cursor.fetchone()[0]

    def consumers():
        return channel.queue_declare(queue, passive=True).consumer_count

    cloud.until(30, 'the queue without a consumer', lambda: consumers() == 0)
    before, consuming = reports(), None
    started = launch(host, kind)
    while consuming is None:
        if consumers():
            consuming = time.time() - started
        check_alive(host, started)
        time.sleep(.002)
    while reports() <= before:
        check_alive(host, started)
        time.sleep(.002)
    up = time.time() - started
    db.close()
    connection.close()
    return consuming, up


def check_alive(host, started):
    if not cloud.pid_of(f'{host}/compute') or time.time() - started > 120:
        raise cloud.Failed(f'{host}: the service did not come up')


# --- RPC

def connect():
    c = amqp.Connection(BROKER, userid='guest', password='guest')
    c.connect()
    return c


class RawClient:
    """Calls straight over AMQP, one at a time."""

    def __init__(self):
        from nova import context
        self.context = {f'_context_{k}': v
                        for k, v in context.get_admin_context().to_dict().items()}
        self.connection = connect()
        self.channel = self.connection.channel()
        self.reply_q = 'reply_' + uuid.uuid4().hex
        self.channel.queue_declare(self.reply_q, auto_delete=True)
        self.channel.exchange_declare(self.reply_q, 'direct', auto_delete=True)
        self.channel.queue_bind(self.reply_q, self.reply_q, self.reply_q)
        self.channel.basic_consume(self.reply_q, no_ack=True, callback=self.on_reply)

    def on_reply(self, message):
        reply = json.loads(json.loads(message.body)['oslo.message'])
        if reply['_msg_id'] == self.waits_for and reply.get('ending', True):
            if reply.get('failure'):
                raise cloud.Failed(f'{self.method}: {reply["failure"]}')
            self.waits_for = None

    def call(self, server, call):
        """Seconds of one call."""
        self.method, namespace, version, args = call
        self.waits_for = uuid.uuid4().hex
        message = {'method': self.method, 'args': args, 'version': version,
                   '_msg_id': self.waits_for, '_reply_q': self.reply_q, '_timeout': None,
                   '_unique_id': uuid.uuid4().hex, **self.context}
        if namespace:
            message['namespace'] = namespace
        body = json.dumps({'oslo.version': '2.0', 'oslo.message': json.dumps(message)})
        started = time.perf_counter()
        self.channel.basic_publish(amqp.Message(body, content_type='application/json',
                                                content_encoding='utf-8'),
                                   'nova', f'compute.{server}')
        while self.waits_for:
            self.connection.drain_events(timeout=30)
        return time.perf_counter() - started

    def close(self):
        self.connection.close()


class OsloClient:
    """Calls as Nova's services make them."""

    def __init__(self):
        import oslo_messaging
        from nova import context
        from oslo_config import cfg
        cfg.CONF([], project='bench', default_config_files=[])
        self.oslo, self.clients = oslo_messaging, {}
        self.context = context.get_admin_context().to_dict()
        self.transport = oslo_messaging.get_rpc_transport(
            cfg.CONF, f'rabbit://guest:guest@{BROKER}/')

    def call(self, server, call):
        method, namespace, version, args = call
        if (server, call[0]) not in self.clients:
            self.clients[server, call[0]] = self.oslo.get_rpc_client(
                self.transport, self.oslo.Target(exchange='nova', topic='compute', server=server,
                                                 version=version, namespace=namespace))
        client = self.clients[server, call[0]]
        started = time.perf_counter()
        client.call(self.context, method, **args)
        return time.perf_counter() - started

    def close(self):
        self.transport.cleanup()


class Echo:
    """The bare librabbitmq consumer, which answers as the compute service of host 'bench-echo'; in
    a host's network, so that its packets go the same way."""
    NAME = 'bench-echo'

    def __init__(self, program, host):
        self.program = program
        self.process = subprocess.Popen(['nsenter', '-t', str(cloud.pid_of(f'{host}/ns')), '-n', program,
                                         'serve', BROKER, f'compute.{self.NAME}'])
        time.sleep(.5)
        c = connect()
        c.channel().queue_bind(f'compute.{self.NAME}', 'nova', f'compute.{self.NAME}')
        c.close()

    def close(self):
        self.process.terminate()
        self.process.wait()


def bare_calls(program, server, n):
    """Median seconds of n pings by the librabbitmq caller."""
    out = subprocess.run([program, 'call', BROKER, f'compute.{server}', 'ping', str(n)],
                         capture_output=True, text=True, check=True, timeout=120).stdout
    return int(re.search(r' p50 (\d+)', out)[1]) / 1e6


# --- the bus, neutron and libvirt while something is done

Seen = collections.namedtuple('Seen', 'what at about call')


def meaning(text):
    """(what, about) of a message: its method and server, or what it stores; an answer and the call."""
    args, method = text.get('args') or {}, text.get('method')
    if not method:
        return [('reply', text.get('_msg_id'))]
    if method == 'object_action' and args.get('objmethod') == 'save':
        obj = args['objinst']
        data, changed = obj['nova_object.data'], obj.get('nova_object.changes', ())
        if obj['nova_object.name'] == 'Migration' and 'status' in changed:
            return [(f'status {data["status"]}', data.get('instance_uuid'))]
        if obj['nova_object.name'] == 'Instance' and {'vm_state', 'task_state'} & set(changed):
            return [(f'saved {data.get("vm_state")}, {data.get("task_state")}', data['uuid'])]
    if method == 'external_instance_event':
        return [(e['nova_object.data']['name'], e['nova_object.data']['instance_uuid'])
                for e in args['events']]
    return [(method, (args.get('instance') or {}).get('nova_object.data', {}).get('uuid'))]


class Wire(threading.Thread):
    """When messages were published, by the broker's firehose."""

    def __init__(self):
        super().__init__(daemon=True)
        self.seen, self.is_over = [], threading.Event()

    def on_message(self, message):
        now = time.time()
        try:
            text = json.loads(json.loads(message.body)['oslo.message'])
        except (ValueError, KeyError, TypeError):
            return
        self.seen += [Seen(what, now, about, text.get('_msg_id')) for what, about in meaning(text)]

    def run(self):
        channel = self.connection.channel()
        queue = channel.queue_declare('', exclusive=True, auto_delete=True).queue
        for pattern in ('publish.nova', 'publish.'):
            channel.queue_bind(queue, 'amq.rabbitmq.trace', pattern)
        channel.basic_consume(queue, no_ack=True, callback=self.on_message)
        self.ready.set()
        while not self.is_over.is_set():
            try:
                self.connection.drain_events(timeout=.2)
            except (TimeoutError, OSError):
                pass

    def __enter__(self):
        lab_shell('rabbit trace_on')
        self.connection, self.ready = connect(), threading.Event()
        self.start()
        self.ready.wait(10)
        return self

    def __exit__(self, *rest):
        time.sleep(.3)
        self.is_over.set()
        self.join()
        self.connection.close()
        lab_shell('rabbit trace_off')

    def since_cast(self):
        """Seconds from the cast of live_migration to the first of each message after it."""
        cast = next(s.at for s in self.seen if s.what == 'live_migration')
        found = {}
        for s in self.seen:
            if s.at >= cast:
                found.setdefault(s.what, s.at - cast)
        return found

    def all(self, what, after, about=None):
        return [s for s in list(self.seen)
                if s.what == what and s.at >= after and about in (None, s.about)]

    def wait(self, what, after, about, limit=120):
        """The first message of that meaning from then on."""
        def found():
            if self.all('saved error, None', after, about):
                raise cloud.Failed(f'{about} is in error')
            return self.all(what, after, about)
        return cloud.until(limit, f'{what} of {about}', found)[0]


class Domains(threading.Thread):
    """When domains of the hosts started and stopped, by libvirt's events: (uuid, event, time)."""

    def __init__(self, hosts):
        super().__init__(daemon=True)
        libvirt.virEventRegisterDefaultImpl()
        self.seen, self.is_over = [], False
        self.connections = {h: libvirt.open(f'qemu+tcp://{cloud.address(h)}/system') for h in hosts}
        for c in self.connections.values():
            c.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self.on_event, None)
        self.timer = libvirt.virEventAddTimeout(100, lambda *_: None, None)  # run() looks at is_over

    def on_event(self, _, domain, event, detail, opaque):
        self.seen.append((domain.UUIDString(), event, time.time()))

    def run(self):
        while not self.is_over:
            libvirt.virEventRunDefaultImpl()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *rest):
        self.is_over = True
        self.join()
        libvirt.virEventRemoveTimeout(self.timer)
        for c in self.connections.values():
            c.close()

    def first(self, uuid, event, after):
        return next((t for u, e, t in list(self.seen) if (u, e) == (uuid, event) and t >= after), None)


def covered(spans, start, end):
    """How much of a time the spans cover together."""
    total, until = 0.0, start
    for a, b in sorted((max(a, start), min(b, end)) for a, b in spans):
        total += max(0.0, b - max(a, until))
        until = max(until, b)
    return total


class Ping:
    """The longest gap between answers to a ping each 20 ms."""

    def __init__(self, address):
        self.address = address

    def __enter__(self):
        self.process = subprocess.Popen(['ping', '-D', '-i', '0.02', self.address], text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.at = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        return self

    def read(self):
        for line in self.process.stdout:
            if m := re.match(r'\[([\d.]+)\].* icmp_seq=\d+ ttl', line):
                self.at.append(float(m[1]))

    def __exit__(self, *rest):
        self.process.terminate()
        self.process.wait()
        self.reader.join()
        self.gap = max((b - a for a, b in zip(self.at, self.at[1:])), default=float('inf'))


def lab_shell(command):
    r = subprocess.run(['bash', '-c', f'. "$1/lib.sh"; {command}', '-', LAB], text=True,
                       stdin=subprocess.DEVNULL, capture_output=True)
    if r.returncode:
        raise cloud.Failed(f'{command}: {r.stdout}{r.stderr}')
    return r.stdout


class Ping:
    """The longest gap between answers to a ping each 20 ms."""

    def __init__(self, address):
        self.address = address

    def __enter__(self):
        self.process = subprocess.Popen(['ping', '-D', '-i', '0.02', self.address], text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.at = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        return self

    def read(self):
        for line in self.process.stdout:
            if m := re.match(r'\[([\d.]+)\].* icmp_seq=\d+ ttl', line):
                self.at.append(float(m[1]))

    def __exit__(self, *rest):
        self.process.terminate()
        self.process.wait()
        self.reader.join()
        self.gap = max((b - a for a, b in zip(self.at, self.at[1:])), default=float('inf'))


def lab_shell(command):
    r = subprocess.run(['bash', '-c', f'. "$1/lib.sh"; {command}', '-', LAB], text=True,
                       stdin=subprocess.DEVNULL, capture_output=True)
    if r.returncode:
        raise cloud.Failed(f'{command}: {r.stdout}{r.stderr}')
    return r.stdout
