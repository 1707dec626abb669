# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls that Python does not have, and errno by name."""
import ctypes
import errno
import os
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
AT_EMPTY_PATH, AT_SYMLINK_FOLLOW = 0x1000, 0x400
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2


def checked(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def attempt(function, *arguments, **named):
    """What it returned, or the name of its error."""
    try:
        result = function(*arguments, **named)
    except OSError as error:
        return errno.errorcode[error.errno]
    return 'ok' if result is None else result


def rename2(old, new, flags):
    checked(LIBC.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


def link_open_file(descriptor, name):
    source = f'/proc/self/fd/{descriptor}'.encode()
    checked(LIBC.linkat(AT_FDCWD, source, AT_FDCWD, os.fsencode(name), AT_SYMLINK_FOLLOW))


def utimens(path, access, modify):
    """Each (seconds, nanoseconds)."""
    times = (ctypes.c_int64 * 4)(*access, *modify)
    checked(LIBC.utimensat(AT_FDCWD, os.fsencode(path), times, 0))


def chown(path, uid, gid):
    checked(LIBC.chown(os.fsencode(path), ctypes.c_uint(uid), ctypes.c_uint(gid)))


def statx(path, mask=0xFFF):
    """The fields that the mask of the answer says are there."""
    buffer = ctypes.create_string_buffer(256)
    checked(LIBC.statx(AT_FDCWD, os.fsencode(path), 0x100, mask, buffer))
    said, block_size, attributes, links, uid, gid, mode = struct.unpack_from('<IIQIIIH', buffer)
    fields = {'mask': said, 'block_size': block_size, 'attributes': attributes, 'links': links,
              'uid': uid, 'gid': gid, 'mode': mode}
    fields['ino'], fields['size'], fields['blocks'], fields['attributes_mask'] = struct.unpack_from(
        '<QQQQ', buffer, 32)
    for number, name in enumerate(('atime', 'btime', 'ctime', 'mtime')):
        fields[name] = struct.unpack_from('<qI', buffer, 64 + 16 * number)
    return fields


def file_handle(path):
    """An opaque handle of what is there, as a file server would keep it."""
    handle = ctypes.create_string_buffer(struct.pack('<Ii', 128, 0), 8 + 128)
    mount = ctypes.c_int()
    checked(LIBC.name_to_handle_at(AT_FDCWD, os.fsencode(path), handle, ctypes.byref(mount), 0))
    return bytes(handle.raw[:8 + struct.unpack_from('<I', handle)[0]])


def open_handle(mount, handle, flags=os.O_RDONLY):
    buffer = ctypes.create_string_buffer(handle, len(handle))
    return checked(LIBC.open_by_handle_at(mount, buffer, flags))


def drop_caches():
    os.sync()
    with open('/proc/sys/vm/drop_caches', 'w') as control:
        control.write('3')
