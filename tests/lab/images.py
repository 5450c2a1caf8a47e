"""Builds what the emulated hosts boot: Debian's arm64 kernel, a control-domain ramdisk with our programs, guest ramdisks
and a guest disk with Redis. Packages come by name from Debian and are cached under .cache/; an image is rebuilt only
when something in it changed."""
import contextlib, fcntl, functools, hashlib, json, os, re, shutil, subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE, OUT, BUILD = ROOT / '.cache', ROOT / 'build' / 'lab', ROOT / 'build' / 'aarch64'
SYSROOT = CACHE / 'sysroot'
KERNEL_META = 'linux-image-cloud-arm64'
HOST_MODULES = 'uio_pci_generic virtio_pci virtio_net virtio_blk tun bridge loop'
GUEST_MODULES = 'virtio_mmio virtio_net virtio_blk virtio_console virtio_rng'


def run(*cmd, **kw):
    return subprocess.run([str(c) for c in cmd], check=True, capture_output=True, text=True, **kw).stdout


class Workshop(contextlib.ContextDecorator):
    """Cases run beside each other: one of them fetches or builds, the others wait and find it done. A holder may enter again."""
    depth, file = 0, None

    def __enter__(self):
        if Workshop.depth == 0:
            OUT.mkdir(parents=True, exist_ok=True)
            Workshop.file = open(OUT / '.lock', 'w')
            fcntl.flock(Workshop.file, fcntl.LOCK_EX)
        Workshop.depth += 1

    def __exit__(self, *_):
        Workshop.depth -= 1
        if Workshop.depth == 0:
            Workshop.file.close()


def apt(*question):
    """apt-cache's answer, kept until the package lists change: it takes a second each, and every case asks."""
    lists = '/var/lib/apt/lists'
    key = json.dumps([os.stat(lists).st_mtime_ns, len(os.listdir(lists)), *question])
    memo = CACHE / 'apt-answers.json'
    try:
        answers = json.loads(memo.read_text())
    except (OSError, ValueError):
        answers = {}
    if key not in answers:
        answers[key] = run('apt-cache', *question)
        memo.parent.mkdir(parents=True, exist_ok=True)
        part = memo.with_suffix(f'.{os.getpid()}')
        part.write_text(json.dumps(answers))
        part.rename(memo)
    return answers[key]


@functools.cache
@Workshop()
def packages(*names):
    """The unpacked files of Debian arm64 packages (newest candidates), in their order. What is missing is fetched at once: apt
    reads its lists anew each time it is called."""
    known = apt('policy', *[f'{n}:arm64' for n in names])
    candidates = {m[1]: m[2] for m in re.finditer(r'^(\S+?)(?::arm64)?:\n(?:  .*\n)*?  Candidate: (\S+)', known, re.M)}
    if missing := [n for n in names if candidates.get(n, '(none)') == '(none)']:
        raise SystemExit(f'no Debian package {missing[0]}:arm64; is the arm64 architecture added and apt-get update done?')
    trees = [CACHE / 'packages' / f'{n}_{candidates[n].replace(":", "%")}' for n in names]
    if wanted := [(n, t) for n, t in zip(names, trees) if not (t / '.done').exists()]:
        debs = CACHE / 'debs'
        debs.mkdir(parents=True, exist_ok=True)
        more = f' and {len(wanted) - 4} more' if len(wanted) > 4 else ''
        print(f'lab: fetching {", ".join(f"{n} {candidates[n]}" for n, _ in wanted[:4])}{more}', flush=True)
        run('apt-get', '-q', 'download', '-o', 'APT::Sandbox::User=root', *[f'{n}:arm64' for n, _ in wanted], cwd=debs)
        for n, tree in wanted:
            deb = max(debs.glob(f'{n}_*_arm64.deb'), key=lambda p: p.stat().st_mtime)
            shutil.rmtree(tree, ignore_errors=True)
            tree.mkdir(parents=True)
            run('dpkg', '-x', deb, tree)
            (tree / '.done').touch()
    return trees


def package(name):
    return packages(name)[0]


@functools.cache
def kernel():
    """(Image, modules directory) of Debian's cloud kernel."""
    name = re.search(r'Depends: (linux-image-[0-9][^\s:]*)', apt('depends', f'{KERNEL_META}:arm64'))[1]
    tree = package(name)
    image = next((tree / 'boot').glob('vmlinuz-*'))
    return image, next((tree / 'lib' / 'modules').iterdir())


def modules(directory, names, to):
    """Copies modules and what they depend on, with an `order` file for insmod."""
    index = {p.stem.replace('-', '_'): p for p in directory.rglob('*.ko')}
    order = []

    def add(n):
        if n in order or n not in index:
            return
        m = re.search(rb'\0depends=([^\0]*)', index[n].read_bytes())
        for d in filter(None, (m[1].decode() if m else '').split(',')):
            add(d.replace('-', '_'))
        order.append(n)
    for n in names.split():
        add(n)
    to.mkdir(parents=True)
    for n in order:
        shutil.copy(index[n], to / f'{n}.ko')
    (to / 'order').write_text('\n'.join(order) + '\n')


def needed(path):
    out = run('aarch64-linux-gnu-readelf', '-d', path)
    return re.findall(r'\(NEEDED\).*\[(.*)\]', out)


def libraries(binaries, to, trees=()):
    """The shared libraries `binaries` need, flat in `to`."""
    places = [*trees, SYSROOT, Path('/usr/aarch64-linux-gnu')]
    to.mkdir(parents=True, exist_ok=True)
    todo = [l for b in binaries for l in needed(b)] + ['ld-linux-aarch64.so.1']
    while todo:
        lib = todo.pop()
        if (to / lib).exists():
            continue
        for place in places:
            hit = next((p for d in ('usr/lib/aarch64-linux-gnu', 'lib/aarch64-linux-gnu', 'lib', 'usr/lib')
                        for p in [place / d / lib] if p.exists()), None)
            if hit:
                break
        else:
            raise SystemExit(f'lab: library {lib} not found')
        shutil.copy(hit.resolve(), to / lib)
        todo += needed(to / lib)


def pack(tree, to):
    names = run('find', '.', cwd=tree)
    with open(to, 'wb') as f:
        subprocess.run(['cpio', '-o', '-H', 'newc', '--quiet', '-R', '0:0'], input=names.encode(), stdout=f, cwd=tree, check=True)


def skeleton(tree, init):
    shutil.rmtree(tree, ignore_errors=True)
    for d in ('bin', 'proc', 'sys', 'dev', 'tmp', 'run', 'etc', 'lib', 'root', 'var/lib/proa'):
        (tree / d).mkdir(parents=True)
    shutil.copy(package('busybox-static') / 'bin' / 'busybox', tree / 'bin')
    (tree / 'bin' / 'sh').symlink_to('busybox')
    shutil.copy(init, tree / 'init')
    (tree / 'init').chmod(0o755)


def stamp(*things):
    h = hashlib.sha256()
    for t in things:
        h.update(t.read_bytes() if isinstance(t, Path) and t.is_file() else str(t).encode())
    return h.hexdigest()


@Workshop()
def cached(target, key, build):
    mark = target.with_name(target.name + '.stamp')
    if target.exists() and mark.exists() and mark.read_text() == key:
        return target
    print(f'lab: building {target.relative_to(ROOT)}', flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    build()
    mark.write_text(key)
    return target


def strip_to(binary, to):
    run('aarch64-linux-gnu-strip', '-o', to, binary)


@functools.cache
def guest_ramdisk():
    init = Path(__file__).parent / 'guest-init'
    image, mods = kernel()
    tools = [BUILD / 'tests' / n for n in ('lab-agent', 'power-button', 'guests/memory-writer')]

    def build():
        tree = OUT / 'guest'
        skeleton(tree, init)
        modules(mods, GUEST_MODULES, tree / 'mod')
        for b in tools:
            strip_to(b, tree / 'bin' / b.name)
        pack(tree, OUT / 'guest.cpio')
    return cached(OUT / 'guest.cpio', stamp(init, image.name, *tools, Path(__file__)), build)


def guest_disk():
    """A 64 MiB ext4 disk with Debian's redis-server and its libraries."""
    trees = packages('redis-server', 'redis-tools', 'liblua5.1-0', 'libjemalloc2', 'libhiredis0.14', 'liblzf1', 'libatomic1', 'lua-cjson',
                      'lua-bitop', 'libsystemd0', 'libcap2', 'libgcrypt20', 'libgpg-error0', 'liblz4-1', 'liblzma5', 'libzstd1', 'libssl3')
    redis, trees = trees[:2], trees[2:]

    def build():
        tree = OUT / 'disk'
        shutil.rmtree(tree, ignore_errors=True)
        (tree / 'bin').mkdir(parents=True)
        server = next(p for t in redis for p in (t / 'usr' / 'bin').glob('redis-check-rdb') if not p.is_symlink())
        shutil.copy(server, tree / 'bin' / 'redis-server')
        libraries([server], tree / 'lib', trees)
        disk = OUT / 'guest.ext4'
        disk.unlink(missing_ok=True)
        run('mke2fs', '-q', '-t', 'ext4', '-d', tree, disk, '64M')
    return cached(OUT / 'guest.ext4', stamp(*[t.name for t in (*redis, *trees)], Path(__file__)), build)


def state_disk():
    """An empty file system for what a host must not forget when it dies."""
    def build():
        disk = OUT / 'state.ext4'
        disk.unlink(missing_ok=True)
        run('mke2fs', '-q', '-t', 'ext4', disk, '64M')
    return cached(OUT / 'state.ext4', stamp(Path(__file__)), build)


def closure(name):
    """The packages `name` needs that hold libraries, by name."""
    out = apt('depends', '--recurse', '--no-recommends', '--no-suggests', '--no-conflicts', '--no-breaks', '--no-replaces', '--no-enhances', f'{name}:arm64')
    found = set(re.findall(r'^(?:lib|zlib1g|qemu-system)[^\s:]*(?=:arm64$)', out, re.M))
    return sorted(n for n in found if not re.search('debconf|installer|newt|slang|pam|semanage|text', n))


@functools.cache
def host_ramdisk(name='host', extra=None):
    init = Path(__file__).parent / 'host-init'
    image, mods = kernel()
    programs = [BUILD / 'programs' / n for n in ('proa', 'proa-keys', 'proad', 'proa-vm')] + [BUILD / 'tests' / 'lab-agent']
    guests = sorted((BUILD / 'tests' / 'guests').glob('*.img'))
    ramdisk = guest_ramdisk()

    def build():
        tree = OUT / name
        skeleton(tree, init)
        modules(mods, HOST_MODULES, tree / 'mod')
        for b in programs:
            strip_to(b, tree / 'bin' / b.name)
        (tree / 'bin' / 'migrate').symlink_to('proa')
        libraries(programs[:4], tree / 'lib')
        shutil.copy(image, tree / 'root' / 'Image')
        shutil.copy(ramdisk, tree / 'root' / 'guest.cpio')
        for g in guests:
            shutil.copy(g, tree / 'root')
        if extra:
            extra(tree)
        pack(tree, OUT / f'{name}.cpio')
    return cached(OUT / f'{name}.cpio', stamp(init, image.name, ramdisk, Path(__file__), *programs, *guests), build)
