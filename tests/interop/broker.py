"""A RabbitMQ of our own on loopback ports, and a TCP proxy to cut its connections."""

import os
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time

BEAM_ARGS = '+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none'


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Broker:
    """Own directory, node name, cookie, ports and port mapper; stopped by pid."""

    def __init__(self, tls=None):
        self.dir = tempfile.mkdtemp(prefix='interop-')
        self.port = free_port()
        self.tls_port = free_port() if tls else None
        epmd_port = free_port()
        with open(f'{self.dir}/.erlang.cookie', 'w') as f:
            f.write(os.urandom(12).hex())
        os.chmod(f.name, 0o400)
        with open(f'{self.dir}/rabbitmq.conf', 'w') as f:
            f.write(f'listeners.tcp.1 = 127.0.0.1:{self.port}\n'
                    'vm_memory_high_watermark.absolute = 2GB\n'
                    'disk_free_limit.absolute = 1MB\nlog.console = true\nlog.file = false\n')
            if tls:
                f.write(f'listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n'
                        f'ssl_options.cacertfile = {tls}/ca.pem\n'
                        f'ssl_options.certfile = {tls}/server.pem\n'
                        f'ssl_options.keyfile = {tls}/server.key\n'
                        'ssl_options.verify = verify_peer\n'
                        'ssl_options.fail_if_no_peer_cert = true\n')
        with open(f'{self.dir}/plugins', 'w') as f:
            f.write('[].\n')
        self.env = dict(
            os.environ, HOME=self.dir, RABBITMQ_HOME=self.dir,
            RABBITMQ_NODENAME=f'interop-{os.getpid()}-{self.port}@localhost',
            RABBITMQ_MNESIA_BASE=f'{self.dir}/mnesia', RABBITMQ_LOG_BASE=self.dir,
            RABBITMQ_CONFIG_FILE=f'{self.dir}/rabbitmq.conf',
            RABBITMQ_PID_FILE=f'{self.dir}/pid', RABBITMQ_ENABLED_PLUGINS_FILE=f'{self.dir}/plugins',
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=BEAM_ARGS, RABBITMQ_DIST_PORT=str(free_port()),
            ERL_EPMD_ADDRESS='127.0.0.1', ERL_EPMD_PORT=str(epmd_port))
        self.epmd = subprocess.Popen(['epmd', '-port', str(epmd_port), '-address', '127.0.0.1'],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.beam = None

    def start(self):
        self.log = open(f'{self.dir}/log', 'a')
        self.beam = subprocess.Popen(['/usr/lib/rabbitmq/bin/rabbitmq-server'], env=self.env,
                                     stdout=self.log, stderr=self.log, start_new_session=True)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            with open(f'{self.dir}/log') as f:
                if 'Server startup complete' in f.read():
                    return self
            if self.beam.poll() is not None:
                break
            time.sleep(0.1)
        with open(f'{self.dir}/log') as f:
            raise RuntimeError('rabbitmq does not start:\n' + f.read())

    def kill(self):
        """The broker vanishes as in a crash, with its children."""
        if self.beam:
            os.killpg(self.beam.pid, 9)
            self.beam.wait()
            self.beam = None
            self.log.close()
            os.truncate(f'{self.dir}/log', 0)

    def close(self):
        self.kill()
        self.epmd.kill()
        self.epmd.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def ctl(self, *args):
        return subprocess.run(['/usr/lib/rabbitmq/bin/rabbitmqctl', '-q', *args], env=self.env,
                              check=True, text=True, capture_output=True).stdout

    def url(self, port=None, host='127.0.0.1'):
        return f'rabbit://guest:guest@{host}:{port or self.port}/'


class Proxy(threading.Thread):
    """Passes a port on to another one, until it is told to refuse or to hold."""

    def __init__(self, to_port):
        super().__init__(daemon=True)
        self.to_port = to_port
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        self.pairs = {}
        self.lock = threading.Lock()
        self.is_refusing = False
        self.is_holding = False
        self.start()

    def refuse(self):
        self.is_refusing = True
        self.cut()

    def accept(self):
        self.is_refusing = False

    def hold(self, is_holding):
        """Lets nothing through, and tells nobody."""
        self.is_holding = is_holding

    def cut(self):
        with self.lock:
            for s in self.pairs:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def _accept(self):
        s, _ = self.listener.accept()
        if self.is_refusing:
            s.close()
            return
        try:
            other = socket.create_connection(('127.0.0.1', self.to_port))
        except OSError:
            s.close()
            return
        with self.lock:
            self.pairs[s], self.pairs[other] = other, s

    def _pass(self, s):
        try:
            data = s.recv(65536)
            if data:
                self.pairs[s].sendall(data)
                return
        except OSError:
            pass
        with self.lock:
            other = self.pairs.pop(s)
            self.pairs.pop(other, None)
        s.close()
        other.close()

    def run(self):
        while True:
            if self.is_holding:
                time.sleep(0.05)
                continue
            readable, _, _ = select.select([self.listener, *self.pairs], [], [], 0.1)
            for s in readable:
                if s is self.listener:
                    self._accept()
                elif s in self.pairs:
                    self._pass(s)
