# SPDX-License-Identifier: GPL-2.0-or-later
"""times.py DIRECTORY set|check: time stamps of any age, kept or changed as asked."""
import os
import sys
import time

from calls import UTIME_NOW, UTIME_OMIT, attempt, drop_caches, statx, utimens

YEAR = 365.2425 * 86400
STATX_BTIME, STATX_BASIC = 0x800, 0x7FF
# Around 1901, 1970, 2038, 2106, 2446 and 2514, and as far as 64 bits go.
SECONDS = sorted({edge + delta for edge in (-(2**31), 0, 2**31, 2**32, 2**33 + 2**32 + 2**31,
                                            2**34, -(2**40), 2**40, -(2**62), 2**62)
                  for delta in (-1, 0, 1)})


def fields(path, *names):
    found = statx(path)
    return [found[name] for name in names]


def set_all():
    birth = {}
    for number, seconds in enumerate(SECONDS):
        name = f'at-{number}'
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
        birth[name] = statx(name)['btime']
        utimens(name, (seconds, number), (seconds, 999_999_999 - number))
    print('right at once:', wrong())
    old = statx('at-0')
    assert old['mask'] & (STATX_BASIC | STATX_BTIME) == STATX_BASIC | STATX_BTIME, old['mask']
    now = time.time()
    born = [name for name, (seconds, _) in birth.items() if not now - 60 < seconds <= now + 1]
    print('born at another time:', born)
    # What does not touch a file's birth, and what makes a new one.
    with open('kept', 'w') as file:
        file.write('x')
    first = statx('kept')['btime']
    time.sleep(0.02)
    os.rename('kept', 'kept-2')
    os.chmod('kept-2', 0o600)
    os.link('kept-2', 'kept-3')
    with open('kept-2', 'a') as file:
        file.write('y')
    utimens('kept-2', (1, 0), (1, 0))
    print('birth stays:', statx('kept-3')['btime'] == first)
    os.unlink('kept-2')
    with open('kept-2', 'w'):
        pass
    print('a new file is younger:', statx('kept-2')['btime'] > first)


def wrong():
    bad = []
    for number, seconds in enumerate(SECONDS):
        found = fields(f'at-{number}', 'atime', 'mtime')
        if found != [(seconds, number), (seconds, 999_999_999 - number)]:
            bad.append((seconds, found))
    return bad or 'all'


def now_and_omit():
    def step(what, access, modify):
        before = fields('f', 'atime', 'mtime', 'ctime')
        time.sleep(0.02)
        result = attempt(utimens, 'f', access, modify)
        after = fields('f', 'atime', 'mtime', 'ctime')
        changes = ['stays' if a == b else 'now' if abs(a[0] - time.time()) < 5 else 'set'
                   for a, b in zip(after, before)]
        print(f'{what}: {result}, {" ".join(changes)}')

    with open('f', 'w'):
        pass
    now, omit, then = (0, UTIME_NOW), (0, UTIME_OMIT), (12345, 678)
    step('both set', then, then)
    step('neither', omit, omit)
    step('access now', now, omit)
    step('modification now', omit, now)
    step('both set', then, then)
    step('both now', now, now)
    step('access set', then, omit)
    step('modification set', omit, then)
    step('too many nanoseconds', (1, 1_000_000_000), omit)
    step('negative nanoseconds', (1, -5), omit)
    os.utime('f')
    print('utime:', abs(os.stat('f').st_mtime - time.time()) < 5)
    os.symlink('f', 'link')
    os.utime('link', ns=(5, 6), follow_symlinks=False)
    print('of a symlink:', os.lstat('link').st_mtime_ns, os.stat('f').st_mtime_ns > 6)


def granularity():
    """Nanoseconds; what is later is never older, in one file and across files."""
    last = 0
    backwards = 0
    for number in range(200):
        name = f'g-{number % 10}'
        with open(name, 'a') as file:
            file.write('x')
        found = os.stat(name).st_mtime_ns
        backwards += found < last
        last = found
        backwards += time.time_ns() + 1000 < found
    print('backwards:', backwards)


def moves():
    """What moves which time of a file and of its directory."""
    def step(what, function):
        before = fields('d/f', 'mtime', 'ctime') + fields('d', 'mtime', 'ctime')
        time.sleep(0.02)
        function()
        after = fields('d/f', 'mtime', 'ctime') + fields('d', 'mtime', 'ctime')
        moved = [name for name, a, b in zip(('mtime', 'ctime', 'directory mtime',
                                             'directory ctime'), after, before) if a != b]
        print(f'{what}:', ', '.join(moved) or 'nothing')

    def write(data=b'x'):
        with open('d/f', 'r+b') as file:
            file.write(data)

    os.mkdir('d')
    with open('d/f', 'wb') as file:
        file.write(b'content')
    step('read', lambda: open('d/f').close())
    step('write', write)
    step('empty write', lambda: write(b''))
    # The kernel's writeback cache keeps the times it has: cache=kernel differs.
    step('truncate to the same size', lambda: os.truncate('d/f', os.stat('d/f').st_size))
    step('truncate', lambda: os.truncate('d/f', 3))
    step('open with O_TRUNC', lambda: open('d/f', 'w').close())
    step('O_TRUNC of nothing', lambda: open('d/f', 'w').close())
    step('chmod', lambda: os.chmod('d/f', 0o600))
    step('chmod to the same', lambda: os.chmod('d/f', 0o600))
    step('link', lambda: os.link('d/f', 'd/g'))
    step('unlink of the link', lambda: os.unlink('d/g'))
    step('rename beside it', lambda: (os.rename('d/f', 'd/g'), os.rename('d/g', 'd/f')))
    step('make a file beside it', lambda: open('d/h', 'w').close())
    step('write to that', lambda: open('d/h', 'a').write('x'))
    step('rename over that', lambda: (os.link('d/f', 'd/i'), os.rename('d/i', 'd/h'),
                                      os.unlink('d/h')))


def main():
    os.chdir(sys.argv[1])
    if sys.argv[2] == 'check':
        print('right after a mount:', wrong())
        return
    set_all()
    now_and_omit()
    granularity()
    moves()
    if os.getuid() == 0:
        drop_caches()
        print('right without caches:', wrong())


main()
