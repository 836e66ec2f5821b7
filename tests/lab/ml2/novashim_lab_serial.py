"""A filter for the lab's neutron: activations of port bindings go one after another.

Debian's nova-compute asks for the same activation twice at a migration's end, at the same time, and
takes 409 (already active) for an answer; neutron now and then answers the second one 500, and the
server goes to ERROR."""
import threading

lock = threading.Lock()


def factory(global_conf, **local_conf):
    def filter_of(app):
        def serial(environ, start_response):
            if not environ['PATH_INFO'].endswith('/activate'):
                return app(environ, start_response)
            with lock:
                return app(environ, start_response)
        return serial
    return filter_of
