# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests that are small Python programs share: `from probe import *`, see ../probe.sh.

show() tells how a call ends, expect() tells only what is not as it should be.
"""
import ctypes
import errno
import fcntl
import mmap
import os
import random
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time

AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
OTHER_USER, OTHER_GROUP = 65534, 65534
CLONE_NEWUSER = 0x10000000

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def checked(result):
    """Of a call into libc: its result, or the error it left."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def ending(call, *arguments, **named):
    """'ok', or the name of the error."""
    try:
        call(*arguments, **named)
    except OSError as error:
        return errno.errorcode[error.errno]
    return 'ok'


def show(what, call, *arguments, **named):
    print(f'{what}: {ending(call, *arguments, **named)}', flush=True)


def expect(what, found, wanted):
    if found != wanted:
        print(f'{what}: {found!r:.300} instead of {wanted!r:.300}', flush=True)


def expect_error(what, name, call, *arguments, **named):
    expect(what, ending(call, *arguments, **named), name)


def write_all(descriptor, data):
    """Of what does not fit, a part may be written before the error comes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view):]


def put(path, data=b'', mode=0o666):
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)


def get(path):
    with open(path, 'rb') as file:
        return file.read()


def mode_of(path):
    return oct(stat.S_IMODE(os.lstat(path).st_mode))


def rename2(source, target, flags):
    checked(libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags))


def fallocate(descriptor, mode, offset, length):
    checked(libc.fallocate(descriptor, mode, ctypes.c_int64(offset), ctypes.c_int64(length)))


def map_at_will(descriptor, length):
    """The address of a shared mapping that may reach behind the end of the file."""
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                          ctypes.c_int, ctypes.c_int64]
    return libc.mmap(None, length, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, descriptor, 0)


def in_child(function, user=None, group=None, groups=()):
    """Runs it in a process of its own, as this user; whether that ended well."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if user is not None:
                os.setgroups(list(groups))
                os.setresgid(group, group, group)
                os.setresuid(user, user, user)
            function()
            status = 0
        except BaseException as error:  # a child never returns to the caller's code
            print(f'{type(error).__name__}: {error}')
        finally:
            sys.stdout.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def as_user(function, user=OTHER_USER, group=OTHER_GROUP, groups=()):
    expect('the child', in_child(function, user, group, groups), 0)


def start(function):
    """A process that runs it; wait_for() says how it ended."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException as error:
            print(f'{type(error).__name__}: {error}')
        finally:
            sys.stdout.flush()
            os._exit(status)
    return child


def wait_for(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
