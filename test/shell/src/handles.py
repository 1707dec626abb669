# SPDX-License-Identifier: GPL-2.0-or-later
"""handles.py MOUNT collect|check FILE: file handles, as a file server gives them out and meets them
again after caches, mounts and removals."""
import os
import pickle
import sys

from calls import attempt, drop_caches, file_handle, link_open_file, open_handle


def read_by(mount, handle):
    descriptor = open_handle(mount, handle)
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


def collect(top):
    os.makedirs(f'{top}/a/b/c')
    for path in ('file', 'a/file', 'a/b/c/file', 'gone', 'replaced'):
        with open(f'{top}/{path}', 'w') as file:
            file.write(path)
    os.link(f'{top}/a/file', f'{top}/linked')
    os.symlink('file', f'{top}/symlink')
    paths = ('file', 'a/file', 'a/b/c/file', 'gone', 'replaced', 'a', 'a/b', 'a/b/c', '.')
    return {path: file_handle(f'{top}/{path}') for path in paths}


def look(top, handles):
    mount = os.open(top, os.O_RDONLY)
    for path, handle in sorted(handles.items()):
        if os.path.isdir(f'{top}/{path}'):
            descriptor = attempt(open_handle, mount, handle, os.O_RDONLY | os.O_DIRECTORY)
            if isinstance(descriptor, str):
                print(' ', path, descriptor)
                continue
            same = os.fstat(descriptor).st_ino == os.stat(f'{top}/{path}').st_ino
            above = os.stat('..', dir_fd=descriptor).st_ino == os.stat(f'{top}/{path}/..').st_ino
            print(' ', path, 'same' if same else 'another',
                  'above right' if above else 'above wrong', len(os.listdir(descriptor)), 'entries')
            # The kernel finds its way up without having come down.
            where = os.readlink(f'/proc/self/fd/{descriptor}')
            print('   ', os.path.relpath(where, top))
            os.close(descriptor)
        else:
            print(' ', path, attempt(read_by, mount, handle))
    os.close(mount)


def main():
    top, action, store = sys.argv[1:]
    if action == 'check':
        with open(store, 'rb') as file:
            handles = pickle.load(file)
        print('after a mount')
        look(top, handles)
        return
    handles = collect(top)
    print('at once')
    look(top, handles)
    drop_caches()
    print('without caches')
    look(top, handles)
    os.rename(f'{top}/a/b', f'{top}/moved')
    os.symlink('../moved', f'{top}/a/b')
    os.unlink(f'{top}/gone')
    for _ in range(50):
        os.unlink(f'{top}/replaced')
        with open(f'{top}/replaced', 'w') as file:
            file.write('another file')
    drop_caches()
    print('after changes')
    look(top, handles)
    # An unlinked open file, and one that never had a name, can be had by handle.
    mount = os.open(top, os.O_RDONLY)
    ghost = os.open(f'{top}/linked', os.O_RDWR)
    kept = handles['a/file']
    os.unlink(f'{top}/linked')
    os.unlink(f'{top}/a/file')
    drop_caches()
    print('unlinked and open:', attempt(read_by, mount, kept))
    os.close(ghost)
    drop_caches()
    print('... and closed:', attempt(read_by, mount, kept))
    unnamed = os.open(top, os.O_TMPFILE | os.O_RDWR)
    os.write(unnamed, b'unnamed')
    link_open_file(unnamed, f'{top}/named')
    os.close(unnamed)
    handles['named'] = file_handle(f'{top}/named')
    os.close(mount)
    with open(store, 'wb') as file:
        pickle.dump(handles, file)


main()
