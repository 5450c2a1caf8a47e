"""What `proa protect --status` says, and waiting for it: for the demo, the tests and the benchmarks of high availability."""
import json, time
from .host import LabError

GONE_ON = ('alone', 'unprotected')  # a primary that runs its guest without a backup


def status(host, name='g1'):
    """The guest's row, {} if there is none."""
    rows = json.loads(host.sh('proa protect --status --json'))['guests']
    return next((r for r in rows if r['name'] == name), {})


def wait(what, host, good, seconds=60, name='g1'):
    """Until good(row); the row."""
    end = time.monotonic() + seconds
    while True:
        row = status(host, name)
        if good(row):
            return row
        if time.monotonic() > end:
            log = host.run(f'proa list; tail -n 30 /run/proad.log /run/proa/log/{name}.log')[0]
            raise LabError(f'host {host.number}: {what}: not within {seconds} s; it says {json.dumps(row)}\n{log[-3000:]}')
        time.sleep(0.2)


def protect(host, target, options='', name='g1', seconds=180):
    """proa protect; the guest's row once it is protected."""
    host.sh(f'proa protect {name} {target.address} {options}', seconds)
    return wait('the guest is protected', host, lambda r: r.get('state') == 'protected', 20, name)


def wait_takeover(host, name='g1', seconds=60):
    """Until `host` runs the guest in its dead peer's stead; what it says about that."""
    row = wait('the backup takes over', host, lambda r: (r.get('failover') or {}).get('running_ms') is not None, seconds, name)
    return row['failover']


def runs(host, name='g1'):
    """Does the host say that it runs the guest? A copy that is kept for a failover is `standby`."""
    return host.guests().get(name, {}).get('state') in ('running', 'migrating')
