# SPDX-License-Identifier: GPL-2.0-or-later
"""mapped.py DIRECTORY: shared writable mappings, seen through read(2) and other mappings."""
import mmap
import os
import random
import sys

PAGE = 4096


def open_sized(path, size):
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.ftruncate(fd, size)
    return fd


def stores_are_seen_by_read(root):
    fd = open_sized(f'{root}/f1', 16 * PAGE)
    area = mmap.mmap(fd, 16 * PAGE)
    area[5 * PAGE - 3:5 * PAGE + 3] = b'across'
    assert os.pread(fd, 6, 5 * PAGE - 3) == b'across'
    os.pwrite(fd, b'written', 100)
    assert area[100:107] == b'written'
    os.close(fd)


def two_mappings_share_pages(root):
    fd = open_sized(f'{root}/f2', 4 * PAGE)
    first, second = mmap.mmap(fd, 4 * PAGE), mmap.mmap(fd, 4 * PAGE)
    first[PAGE:PAGE + 5] = b'hello'
    assert second[PAGE:PAGE + 5] == b'hello'
    os.close(fd)


def a_mapping_outlives_the_descriptor_and_the_name(root):
    fd = open_sized(f'{root}/f3', PAGE)
    area = mmap.mmap(fd, PAGE)
    os.close(fd)
    os.unlink(f'{root}/f3')
    area[:5] = b'ghost'
    area.flush()
    assert area[:5] == b'ghost'


def stores_behind_the_end_do_not_reach_the_file(root):
    fd = open_sized(f'{root}/f4', 100)
    area = mmap.mmap(fd, 100)
    area[90:100] = b'0123456789'
    area.flush()
    os.ftruncate(fd, PAGE)
    assert os.pread(fd, PAGE, 90) == b'0123456789' + bytes(PAGE - 100)
    os.close(fd)


def random_stores_and_writes_agree_with_a_model(root):
    size = 64 * PAGE
    rng = random.Random(7)
    model = bytearray(size)
    fd = open_sized(f'{root}/model', size)
    area = mmap.mmap(fd, size)
    for step in range(3000):
        offset = rng.randrange(size)
        data = rng.randbytes(min(size - offset, rng.choice([1, 10, 500, PAGE, 3 * PAGE])))
        model[offset:offset + len(data)] = data
        if rng.randrange(2):
            area[offset:offset + len(data)] = data
        else:
            os.pwrite(fd, data, offset)
        if step % 100 == 0:
            rng.choice([area.flush, lambda: os.fsync(fd)])()
    assert area[:] == bytes(model)
    assert os.pread(fd, size, 0) == bytes(model)
    area.flush()
    os.close(fd)
    with open(f'{root}/../model.expected', 'wb') as file:
        file.write(model)


def main(root):
    for function in (stores_are_seen_by_read, two_mappings_share_pages,
                     a_mapping_outlives_the_descriptor_and_the_name,
                     stores_behind_the_end_do_not_reach_the_file,
                     random_stores_and_writes_agree_with_a_model):
        try:
            function(root)
            print('ok -', function.__name__.replace('_', ' '))
        except (AssertionError, OSError) as error:
            print('NOT OK -', function.__name__.replace('_', ' '), '-', repr(error), flush=True)


main(sys.argv[1])
