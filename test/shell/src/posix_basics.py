# SPDX-License-Identifier: GPL-2.0-or-later
"""posix_basics.py DIRECTORY: claims every Linux program relies on; prints each with its truth."""
import errno
import os
import stat
import sys

CLAIMS = []
ROOT = sys.argv[1]


def claim(function):
    CLAIMS.append(function)
    return function


def refuses(code, function, *arguments, **named):
    try:
        function(*arguments, **named)
    except OSError as error:
        assert error.errno == code, f'{errno.errorcode[error.errno]}, not {errno.errorcode[code]}'
        return
    raise AssertionError(f'accepted, not {errno.errorcode[code]}')


def put(name, data=b''):
    with open(name, 'wb') as file:
        file.write(data)


def get(name):
    with open(name, 'rb') as file:
        return file.read()


@claim
def rename_replaces_a_file():
    put('a', b'one')
    put('b', b'two')
    os.rename('a', 'b')
    assert get('b') == b'one'
    assert not os.path.exists('a')


@claim
def rename_moves_directories_and_their_parent_counts():
    os.makedirs('d1/sub')
    os.mkdir('d2')
    before = os.stat('d1').st_nlink, os.stat('d2').st_nlink
    os.rename('d1/sub', 'd2/sub')
    assert (os.stat('d1').st_nlink, os.stat('d2').st_nlink) == (before[0] - 1, before[1] + 1)
    assert os.stat('d2/sub/..').st_ino == os.stat('d2').st_ino


@claim
def rename_refuses_what_it_must():
    os.makedirs('full/x')
    os.mkdir('empty')
    put('file')
    refuses(errno.ENOTEMPTY, os.rename, 'empty', 'full')
    refuses(errno.EINVAL, os.rename, 'full', 'full/x/y')
    refuses(errno.EISDIR, os.rename, 'file', 'empty')
    refuses(errno.ENOTDIR, os.rename, 'empty', 'file')
    refuses(errno.ENOENT, os.rename, 'nothing', 'file')


@claim
def hard_links_share_everything_and_are_counted():
    put('a', b'shared')
    os.link('a', 'b')
    assert os.stat('a').st_nlink == 2
    assert os.stat('a').st_ino == os.stat('b').st_ino
    put('b', b'changed')
    assert get('a') == b'changed'
    os.unlink('a')
    assert os.stat('b').st_nlink == 1
    refuses(errno.EEXIST, os.link, 'b', 'b')


@claim
def symlinks_hold_any_target_up_to_4095_bytes():
    for target in ('x', 'y' * 59, 'z' * 1001, 'w' * 4095):
        os.symlink(target, 'link')
        assert os.readlink('link') == target
        assert os.lstat('link').st_size == len(target)
        os.unlink('link')


@claim
def an_unlinked_open_file_lives_until_close():
    with open('ghost', 'w+b') as file:
        file.write(b'x' * 100000)
        file.flush()
        os.unlink('ghost')
        assert os.fstat(file.fileno()).st_nlink == 0
        file.write(b'more')
        file.seek(99999)
        assert file.read() == b'xmore'
    assert not os.path.exists('ghost')


@claim
def modes_owners_and_umask_are_kept():
    put('f')
    for mode in (0o0, 0o644, 0o4755, 0o2755, 0o1777):
        os.chmod('f', mode)
        assert stat.S_IMODE(os.stat('f').st_mode) == mode
    old = os.umask(0o027)
    os.mkdir('d', 0o777)
    os.close(os.open('g', os.O_CREAT | os.O_WRONLY, 0o666))
    os.umask(old)
    assert stat.S_IMODE(os.stat('d').st_mode) == 0o750
    assert stat.S_IMODE(os.stat('g').st_mode) == 0o640
    if os.getuid() == 0:
        os.chown('f', 1234, 70000)
        assert (os.stat('f').st_uid, os.stat('f').st_gid) == (1234, 70000)


@claim
def times_have_nanoseconds_and_reach_before_1970():
    put('f')
    for ns in (0, 1, 1234567890123456789, -1500000000, 4 * 10**18):
        os.utime('f', ns=(ns, ns + 1))
        assert (os.stat('f').st_atime_ns, os.stat('f').st_mtime_ns) == (ns, ns + 1), ns


@claim
def changes_move_mtime_and_ctime():
    put('f', b'x')
    os.utime('f', ns=(10**18, 10**18))
    before = os.stat('f')
    with open('f', 'ab') as file:
        file.write(b'y')
    assert os.stat('f').st_mtime_ns > before.st_mtime_ns
    assert os.stat('f').st_ctime_ns >= before.st_ctime_ns
    os.mkdir('d')
    os.utime('d', ns=(10**18, 10**18))
    put('d/new')
    assert os.stat('d').st_mtime_ns > 10**18
    os.utime('d', ns=(10**18, 10**18))
    os.unlink('d/new')
    assert os.stat('d').st_mtime_ns > 10**18


@claim
def sparse_files_read_zeros_and_take_no_space():
    with open('sparse', 'wb') as file:
        file.seek(1 << 40)
        file.write(b'end')
        os.fsync(file.fileno())
    assert os.stat('sparse').st_size == (1 << 40) + 3
    assert os.stat('sparse').st_blocks <= 64
    with open('sparse', 'rb') as file:
        assert file.read(8192) == bytes(8192)
        file.seek((1 << 40) - 5000)
        assert file.read() == bytes(5000) + b'end'


@claim
def offsets_reach_close_to_8_eib():
    fd = os.open('huge', os.O_RDWR | os.O_CREAT)
    offset = (1 << 62) + 12345
    os.pwrite(fd, b'far', offset)
    assert os.pread(fd, 10, offset) == b'far'
    assert os.fstat(fd).st_size == offset + 3
    os.close(fd)


@claim
def truncate_cuts_and_extends_with_zeros():
    put('f', b'A' * 10000)
    os.truncate('f', 5000)
    assert get('f') == b'A' * 5000
    os.truncate('f', 9000)
    assert get('f') == b'A' * 5000 + bytes(4000)
    with open('f', 'r+b') as file:
        file.seek(20000)
        file.write(b'B')
    assert get('f') == b'A' * 5000 + bytes(15000) + b'B'
    os.truncate('f', 0)
    assert get('f') == b''
    assert os.stat('f').st_blocks == 0


@claim
def open_with_o_trunc_and_o_append_and_o_excl():
    put('f', b'old content')
    os.close(os.open('f', os.O_WRONLY | os.O_TRUNC))
    assert get('f') == b''
    first = os.open('f', os.O_WRONLY | os.O_APPEND)
    second = os.open('f', os.O_WRONLY | os.O_APPEND)
    for number in range(10):
        os.write(first, b'%d' % number)
        os.write(second, b'-')
    os.close(first)
    os.close(second)
    assert get('f') == b'0-1-2-3-4-5-6-7-8-9-'
    refuses(errno.EEXIST, os.open, 'f', os.O_CREAT | os.O_EXCL)
    os.symlink('f', 'link')
    refuses(errno.ELOOP, os.open, 'link', os.O_RDONLY | os.O_NOFOLLOW)
    refuses(errno.ENOTDIR, os.open, 'f', os.O_RDONLY | os.O_DIRECTORY)


@claim
def names_of_255_bytes_work_and_256_do_not():
    name = 'n' * 255
    put(name, b'x')
    assert os.listdir('.') == [name]
    os.rename(name, 'm' * 255)
    os.unlink('m' * 255)
    refuses(errno.ENAMETOOLONG, put, 'n' * 256)
    refuses(errno.ENAMETOOLONG, os.mkdir, 'n' * 256)
    for raw in (b'\xff\xfe\x01', b' ', b'\n', 'ü漢字'.encode(), b'-rf', b'...'):
        put(raw, raw)
        assert get(raw) == raw
        assert raw in os.listdir(b'.')


@claim
def directories_refuse_what_they_must():
    os.makedirs('d/e')
    put('f')
    refuses(errno.ENOTEMPTY, os.rmdir, 'd')
    refuses(errno.ENOTDIR, os.rmdir, 'f')
    refuses(errno.EEXIST, os.mkdir, 'd')
    refuses(errno.EISDIR, os.unlink, 'd')
    refuses(errno.ENOENT, os.rmdir, 'nothing')
    refuses(errno.ENOTDIR, os.mkdir, 'f/x')
    refuses(errno.ENOENT, put, 'nothing/x')
    os.rmdir('d/e')
    os.rmdir('d')


@claim
def a_directory_of_20000_entries_lists_each_once():
    os.mkdir('big')
    for number in range(20000):
        os.close(os.open(f'big/entry-{number}', os.O_CREAT | os.O_WRONLY))
    names = os.listdir('big')
    assert len(names) == 20000, len(names)
    assert len(set(names)) == 20000
    for number in range(0, 20000, 2):
        os.unlink(f'big/entry-{number}')
    assert sorted(os.listdir('big')) == sorted(f'entry-{n}' for n in range(1, 20000, 2))


@claim
def removing_while_listing_misses_and_doubles_nothing():
    os.mkdir('scan')
    for number in range(3000):
        os.close(os.open(f'scan/{number}', os.O_CREAT | os.O_WRONLY))
    seen = []
    with os.scandir('scan') as entries:
        for entry in entries:
            seen.append(entry.name)
            os.unlink(f'scan/{entry.name}')
    assert len(seen) == len(set(seen)) == 3000, len(seen)
    assert os.listdir('scan') == []


@claim
def special_files_keep_type_and_device():
    os.mkfifo('fifo')
    assert stat.S_ISFIFO(os.stat('fifo').st_mode)
    if os.getuid() == 0:
        os.mknod('device', stat.S_IFCHR | 0o600, os.makedev(1, 3))
        assert stat.S_ISCHR(os.stat('device').st_mode)
        assert os.stat('device').st_rdev == os.makedev(1, 3)


@claim
def many_open_files_keep_their_own_offsets():
    put('f', bytes(range(256)) * 16)
    files = [open('f', 'rb', buffering=0) for _ in range(100)]
    for number, file in enumerate(files):
        file.seek(number)
    assert [file.read(1)[0] for file in files] == list(range(100))
    for file in files:
        file.close()


def main():
    for number, function in enumerate(CLAIMS):
        directory = f'{ROOT}/claim-{number}'
        os.mkdir(directory)
        os.chdir(directory)
        try:
            function()
            print('ok -', function.__name__.replace('_', ' '))
        except (AssertionError, OSError) as error:
            print('NOT OK -', function.__name__.replace('_', ' '), '-', repr(error), flush=True)
    os.chdir('/')


main()
