# SPDX-License-Identifier: GPL-2.0-or-later
"""modes.py DIRECTORY: what becomes of set-ID bits, by whom, and how. Starts as root."""
import mmap
import os
import stat
import subprocess
import sys

from calls import attempt, chown

USER, GROUP, OTHER_GROUP = 65534, 65534, 1234
NOBODY = 0xFFFFFFFF  # -1: leave as it is


def fresh(mode, uid=0, gid=0):
    if os.path.lexists('f'):
        os.unlink('f')
    with open('f', 'wb') as file:
        file.write(b'x' * 10000)
    os.chown('f', uid, gid)
    os.chmod('f', mode)


def show():
    return f'{stat.S_IMODE(os.stat("f").st_mode):04o}'


def as_user(function, groups=()):
    """In a process that is nobody special."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.setgroups(groups)
        os.setresgid(GROUP, GROUP, GROUP)
        os.setresuid(USER, USER, USER)
        result = attempt(function)
        os._exit(0 if result == 'ok' else 1)
    return 'ok' if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 else 'refused'


def write():
    with open('f', 'r+b', buffering=0) as file:
        file.write(b'y')


def write_direct():
    descriptor = os.open('f', os.O_WRONLY | os.O_DIRECT)
    os.write(descriptor, mmap.mmap(-1, 4096))
    os.close(descriptor)


def truncate():
    os.truncate('f', 5)


def truncate_open():
    descriptor = os.open('f', os.O_RDWR)
    os.ftruncate(descriptor, 50000)
    os.close(descriptor)


def open_truncating():
    os.close(os.open('f', os.O_WRONLY | os.O_TRUNC))


def allocate():
    subprocess.run(['fallocate', '-p', '-o', '100', '-l', '5000', 'f'], check=True)


def contents():
    """Without group execution the set-group-ID bit stays, unless somebody writes who is not of the
    group."""
    for function in (write, write_direct, truncate, truncate_open, open_truncating, allocate):
        for mode in (0o6777, 0o2767, 0o4766, 0o0777):
            fresh(mode)
            result = as_user(function)
            user = show()
            fresh(mode)
            function()
            os.sync()
            print(f'{function.__name__} {mode:04o}: user {result} {user}, root {show()}')


def owners():
    for mode in (0o6777, 0o2767, 0o6755):
        for uid, gid in ((1, 2), (1, NOBODY), (NOBODY, 2), (NOBODY, NOBODY), (0, 0)):
            fresh(mode)
            chown('f', uid, gid)
            names = [str(number) if number != NOBODY else '-1' for number in (uid, gid)]
            print(f'chown {":".join(names)} {mode:04o}: {show()}')
    os.mkdir('dir')
    os.chmod('dir', 0o6755)
    os.chown('dir', 1, 2)
    print('chown of a directory:', f'{stat.S_IMODE(os.stat("dir").st_mode):04o}')
    fresh(0o644, USER, OTHER_GROUP)
    print('chmod by a member:', as_user(lambda: os.chmod('f', 0o2755), [OTHER_GROUP]), show())
    print('chmod by no member:', as_user(lambda: os.chmod('f', 0o2755)), show())
    print('chown by its owner:', as_user(lambda: os.chown('f', 1, -1)),
          as_user(lambda: os.chown('f', -1, OTHER_GROUP)),
          as_user(lambda: os.chown('f', -1, GROUP)), show())
    fresh(0o6755, 1, 1)
    print('chmod by a stranger:', as_user(lambda: os.chmod('f', 0o777)), show())


def inheritance():
    os.mkdir('shared')
    os.chown('shared', 0, OTHER_GROUP)
    os.chmod('shared', 0o2777)
    for groups in ((), (OTHER_GROUP,)):
        def make():
            old = os.umask(0)
            os.close(os.open('shared/file', os.O_CREAT | os.O_WRONLY, 0o2777))
            os.mkdir('shared/dir', 0o755)
            os.symlink('x', 'shared/link')
            os.umask(old)
        print('in a set-group-ID directory:', as_user(make, groups))
        for name in ('file', 'dir', 'link'):
            found = os.lstat(f'shared/{name}')
            print(' ', name, stat.filemode(found.st_mode), found.st_uid, found.st_gid)
        os.unlink('shared/file')
        os.unlink('shared/link')
        os.rmdir('shared/dir')
    os.mkdir('sticky')
    os.chmod('sticky', 0o1777)
    with open('sticky/theirs', 'w'):
        pass
    print('sticky:', as_user(lambda: os.unlink('sticky/theirs')),
          as_user(lambda: os.rename('sticky/theirs', 'sticky/mine')))


os.chdir(sys.argv[1])
os.umask(0o022)
contents()
owners()
inheritance()
