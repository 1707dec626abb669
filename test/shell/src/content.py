# SPDX-License-Identifier: GPL-2.0-or-later
"""Contents that tell by themselves which file, version and block they belong to."""
import hashlib

BLOCK = 4096


def block(name, version, index):
    seed = f'{name}:{version}:{index}'.encode()
    return hashlib.blake2b(seed, digest_size=64).digest() * (BLOCK // 64)


def content(name, version, size):
    blocks = (size + BLOCK - 1) // BLOCK
    return b''.join(block(name, version, index) for index in range(blocks))[:size]
