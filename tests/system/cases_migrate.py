"""Live migration between two emulated hosts: there and back under load, and every way in which it can be cut short."""
import json, re, time
from tests.lab.client import Echo
from tests.lab.lab import Lab
from tests.lab.proxy import Proxy
from .harness import Failure
from . import case, expect, expect_eq, retry

B = '10.77.0.2'
A = '10.77.0.1'


def guests(host):
    return {g['name']: g for g in json.loads(host.sh('proa list --json'))}


def running_copies(lab, name='g1'):
    """On how many hosts the guest runs: what promise 1 is about."""
    return [h.number for h in lab.hosts if h.process.poll() is None and guests(h).get(name, {}).get('state') in ('running', 'migrating')]


def writer_says(lab, host, name='g1', seconds=60):
    """Waits for two new reports of the memory writer, so that memory was checked after what happened; never a MISMATCH."""
    before = len(re.findall('WRITER ok', lab.console(host, name)))
    retry('reports of the memory writer', lambda: len(re.findall('WRITER ok', lab.console(host, name))) >= before + 2 or
          'MISMATCH' in lab.console(host, name), seconds)
    expect('MISMATCH' not in lab.console(host, name), 'the writer found wrong memory: ' + lab.console(host, name)[-300:])


def free_pages(host):
    return int(host.sh('cat /sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages'))


def pair(lab, tls=True, **guest):
    lab.start_daemons(tls)
    for h in lab.hosts:
        h.free = free_pages(h)
    lab.create(lab.a, **{'extra': 'dirty=8,2', **guest})


def there_and_back(options, **guest):
    with Lab(hosts=2) as lab:
        pair(lab, **guest)
        echo = Echo(lab.net, '10.77.1.10')
        echo.check()
        writer_says(lab, lab.a)
        for source, target, address in ((lab.a, lab.b, B), (lab.b, lab.a, A), (lab.a, lab.b, B)):
            out = source.sh(f'proa migrate g1 {address} {options}', 200)
            expect(f'g1 moved to {address}' in out, out)
            expect_eq(running_copies(lab), [target.number], 'hosts that run it')
            echo.check()
            writer_says(lab, target)
            expect_eq(source.sh('proa list --json').strip(), '[]', 'guests left at the source')
        # Nothing is left behind where it no longer runs, and the log of writes is off where it does.
        retry('huge pages of the source free again', lambda: free_pages(lab.a) == lab.a.free, 20)


@case()
def there_and_back_hardware_log_2_vcpus():
    there_and_back('--dirty-log hardware', vcpus=2)


@case()
def there_and_back_write_protect_log_2_vcpus():
    there_and_back('--dirty-log write-protect', vcpus=2)


@case(ci=False)
def there_and_back_4_vcpus_compressed_and_limited():
    there_and_back('--compress 3 --bandwidth 20 --channels 4', vcpus=4)


@case(ci=False, minutes=10)
def twenty_moves_lose_nothing():
    with Lab(hosts=2) as lab:
        pair(lab, vcpus=2)
        echo = Echo(lab.net, '10.77.1.10')
        hosts = [(lab.a, A), (lab.b, B)]
        for i in range(20):
            hosts[i % 2][0].sh(f'proa migrate g1 {hosts[(i + 1) % 2][1]}', 200)
            echo.check()
            writer_says(lab, hosts[(i + 1) % 2][0])


@case()
def preflight_refuses_by_name_what_is_missing():
    with Lab(hosts=2) as lab:
        pair(lab)

        def refused(*words):
            out, code = lab.a.run(f'proa migrate g1 {B}', 60)
            expect(code != 0, f'migration went through: {out}')
            for w in words:
                expect(w in out, f'{w!r} is not in: {out}')
            expect_eq(guests(lab.a)['g1']['state'], 'running', 'state at the source')
        lab.create(lab.b, 'g1', address='10.77.1.11')
        refused('g1', 'already')
        lab.b.sh('proa destroy g1')
        lab.b.sh('ip link set br0 down; ip link set br0 name br1')
        refused('br0')
        lab.b.sh('ip link set br1 name br0; ip link set br0 up')
        lab.b.sh('mv /root/Image /root/Elsewhere')
        refused('/root/Image')
        lab.b.sh('mv /root/Elsewhere /root/Image')
        lab.a.sh('proa pause g1')
        out, code = lab.a.run(f'proa migrate g1 {B}', 60)
        expect(code != 0 and 'paused' in out and guests(lab.b) == {}, out)
        lab.a.sh('proa unpause g1')
        lab.b.sh('echo 8 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages')
        refused('huge pages')
        lab.b.sh('echo 160 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages')
        out, code = lab.a.run('proa migrate nosuch 10.77.0.2')
        expect(code != 0 and 'nosuch' in out, out)
        out, code = lab.a.run('proa migrate g1 10.77.0.77', 60)
        expect(code != 0 and '10.77.0.77' in out, out)
        # And when all is there it goes.
        lab.a.sh(f'proa migrate g1 {B}', 100)
        writer_says(lab, lab.b)


@case()
def strangers_get_nothing_without_keys():
    with Lab(hosts=2) as lab:
        pair(lab)
        # A host with keys of another authority.
        lab.b.sh('proa keys init 10.77.0.1 10.77.0.2 --dir /tmp/other && cp /tmp/other/10.77.0.2/* /etc/proa/keys/ && '
                 'kill $(pidof proad) && sleep 1')
        lab.b.start_proad()
        out, code = lab.a.run(f'proa migrate g1 {B}', 60)
        expect(code != 0 and re.search('certificate|TLS|authority', out), out)
        expect_eq(running_copies(lab), [1], 'hosts that run it')
        # One that speaks no TLS at all.
        lab.b.sh('kill $(pidof proad); sleep 1')
        lab.b.start_proad('--plaintext')
        out, code = lab.a.run(f'proa migrate g1 {B}', 60)
        expect(code != 0, out)
        writer_says(lab, lab.a)


def runs_at_source(lab):
    try:
        retry('the guest to run at the source', lambda: guests(lab.a).get('g1', {}).get('state') == 'running', 60)
    except Failure:
        print(lab.a.run('proa list; ps | grep proa; cat /run/proad.log /run/proa/log/g1.log')[0])
        raise


def slow(lab):
    """A migration that takes its time, in the background; returns when pages flow."""
    m = lab.a.start(f'proa migrate g1 {B} --bandwidth 4 --channels 2')
    retry('the copying to begin', lambda: guests(lab.a)['g1']['state'] == 'migrating')
    time.sleep(1)
    return m


def still_here_and_well(lab, migration, why):
    out, code = migration.finish()
    expect(code != 0, f'migration went through: {out}')
    expect(re.search(why, out), f'{why!r} is not in: {out}')
    runs_at_source(lab)
    writer_says(lab, lab.a)


@case()
def cancel_leaves_the_guest_at_the_source():
    with Lab(hosts=2) as lab:
        pair(lab)
        m = slow(lab)
        for other in (f'migrate g1 {B}', 'pause g1', 'dirty-log g1 hardware'):  # nothing else has its dirty log, or stops it
            out, code = lab.a.run(f'proa {other}')
            expect_eq((code, 'g1 is moving\n  proa migrate --cancel it first' in out), (4, True), f'proa {other} meanwhile: {out}')
        lab.a.sh('proa migrate --cancel g1')
        still_here_and_well(lab, m, 'cancel')
        retry('the destination to be clean', lambda: guests(lab.b) == {} and free_pages(lab.b) == lab.b.free)
        # Ctrl-C.
        m = slow(lab)
        lab.a.sh('kill -INT $(pidof proa)')
        m.finish()
        runs_at_source(lab)
        retry('the destination to be clean', lambda: guests(lab.b) == {} and free_pages(lab.b) == lab.b.free)
        # It can still move.
        lab.a.sh(f'proa migrate g1 {B}', 100)
        writer_says(lab, lab.b)


@case()
def link_cut_while_copying():
    with Lab(hosts=2) as lab:
        pair(lab)
        m = slow(lab)
        lab.cut('mig', lab.b)
        # The hosts are reached by that link too: look at the source by the console's log when it is whole again.
        time.sleep(25)
        lab.cut('mig', lab.b, whole=True)
        still_here_and_well(lab, m, '')
        retry('the destination to be clean', lambda: guests(lab.b) == {} and free_pages(lab.b) == lab.b.free, 60)
        lab.a.sh(f'proa migrate g1 {B}', 100)
        writer_says(lab, lab.b)


@case()
def destination_host_dies_while_copying():
    with Lab(hosts=2) as lab:
        pair(lab)
        m = slow(lab)
        lab.b.kill()
        still_here_and_well(lab, m, '')


@case()
def source_host_dies_while_copying():
    with Lab(hosts=2) as lab:
        pair(lab)
        slow(lab)
        lab.a.kill()
        retry('the destination to give up', lambda: guests(lab.b) == {} and free_pages(lab.b) == lab.b.free, 90)


@case()
def destination_process_killed_while_copying():
    with Lab(hosts=2) as lab:
        pair(lab)
        m = slow(lab)
        lab.b.sh('kill -9 $(pidof proa-vm)')
        still_here_and_well(lab, m, '')
        retry('the destination to be clean', lambda: guests(lab.b) == {} and free_pages(lab.b) == lab.b.free)


def cut_before_commit(record, deliver):
    with Lab(hosts=2) as lab:
        pair(lab, tls=False)
        proxy = Proxy(lab, lab.b)
        proxy.cut_at(record, deliver)
        m = lab.a.start(f'proa migrate g1 {proxy.ADDRESS} --plaintext')
        still_here_and_well(lab, m, '')
        expect(proxy.fired.is_set(), f'no {record} passed')
        expect_eq(running_copies(lab), [1], 'hosts that run it')
        retry('the destination to be clean', lambda: guests(lab.b) == {} and free_pages(lab.b) == lab.b.free, 60)
        lab.a.sh(f'proa migrate g1 {proxy.ADDRESS} --plaintext', 100)
        writer_says(lab, lab.b)


@case(ci=False)
def link_cut_at_the_first_round_ack():
    cut_before_commit('RoundAck', False)


@case()
def link_cut_at_the_machine_state():
    cut_before_commit('Machine', False)


@case(ci=False)
def link_cut_after_the_last_state():
    cut_before_commit('StateComplete', True)


@case()
def link_cut_at_ready():
    cut_before_commit('Ready', False)


@case()
def link_cut_before_commit_arrives_the_source_learns_it_never_started():
    cut_before_commit('Commit', False)


@case()
def link_cut_at_started_the_source_learns_it_runs_there():
    with Lab(hosts=2) as lab:
        pair(lab, tls=False)
        proxy = Proxy(lab, lab.b)
        proxy.cut_at('Started')
        out, code = lab.a.run(f'proa migrate g1 {proxy.ADDRESS} --plaintext', 100)
        expect(proxy.fired.is_set(), 'no Started passed')
        expect_eq(code, 0, f'exit code: {out}')
        retry('one copy, at the destination', lambda: running_copies(lab) == [2])
        expect_eq(guests(lab.a), {}, 'guests at the source')
        writer_says(lab, lab.b)


def in_doubt(record, runs_there):
    """The link dies at the commit and stays dead: the source stays paused, says what to do, and --resolve ends it."""
    with Lab(hosts=2) as lab:
        pair(lab, tls=False)
        proxy = Proxy(lab, lab.b)
        proxy.cut_at(record, stay_dead=True)
        out, code = lab.a.run(f'proa migrate g1 {proxy.ADDRESS} --plaintext', 100)
        expect(proxy.fired.is_set(), f'no {record} passed')
        expect(code != 0 and '--resolve' in out, f'exit {code}: {out}')
        expect_eq(guests(lab.a)['g1']['state'], 'in-doubt', 'state at the source')
        retry('the destination to settle', lambda: running_copies(lab) == ([2] if runs_there else []), 30)
        out, code = lab.a.run('proa migrate --resolve g1')
        expect(code != 0, f'resolved without a link: {out}')
        proxy.heal()
        print(lab.a.sh('proa migrate --resolve g1'))
        where = lab.b if runs_there else lab.a
        retry('exactly one copy', lambda: running_copies(lab) == [where.number])
        writer_says(lab, where)


@case()
def in_doubt_when_commit_is_lost():
    in_doubt('Commit', False)


@case()
def in_doubt_when_started_is_lost():
    in_doubt('Started', True)


@case()
def it_says_so_when_it_would_never_converge():
    with Lab(hosts=2) as lab:
        pair(lab, extra='dirty=24,20')
        out, code = lab.a.run(f'proa migrate g1 {B} --bandwidth 3 --downtime 50 --no-converge giveup --compress off', 200)
        expect(code != 0 and 'converge' in out and 'MiB/s' in out, f'{code}: {out}')
        writer_says(lab, lab.a)
        expect_eq(running_copies(lab), [1], 'hosts that run it')
        out = lab.a.sh(f'proa migrate g1 {B} --bandwidth 8 --downtime 3000 --auto-converge', 280)
        expect('moved' in out, out)
        writer_says(lab, lab.b)
