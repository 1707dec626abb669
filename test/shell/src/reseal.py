# SPDX-License-Identifier: GPL-2.0-or-later
"""reseal.py IMAGE OFFSET HEX: writes bytes into every superblock and makes its checksum right."""
import sys

BLOCK, CHECKSUM_AT = 4096, 8


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def sealed(block):
    zeroed = block[:CHECKSUM_AT] + bytes(4) + block[CHECKSUM_AT + 4:]
    return block[:CHECKSUM_AT] + crc32c(zeroed).to_bytes(4, 'little') + block[CHECKSUM_AT + 4:]


def main(path, offset, value):
    with open(path, 'r+b') as image:
        image.seek(0, 2)
        blocks = image.tell() // BLOCK
        changed = 0
        for slot in (1, 2, blocks - 2, blocks - 1):
            image.seek(slot * BLOCK)
            block = image.read(BLOCK)
            if not any(block):
                continue
            if block != sealed(block):
                sys.exit(f'the superblock in block {slot} has another kind of checksum')
            image.seek(slot * BLOCK)
            image.write(sealed(block[:offset] + value + block[offset + len(value):]))
            changed += 1
    if changed == 0:
        sys.exit('no superblock found')


main(sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3]))
