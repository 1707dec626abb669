// SPDX-License-Identifier: GPL-2.0-or-later
#include "check_fixture.h"

#include "base/prng.h"

namespace stablefs {

void CheckFixture::populate(Store& store) {
  Transaction transaction;
  populate_names(transaction);
  populate_data(store, transaction);
  populate_orphans(store, transaction);
  REQUIRE(store.commit(transaction, false).ok());

  // Enough items for a tree of several levels, in several transactions and checkpoints.
  for (uint64_t i = 0; i < kManyCount; ++i) {
    Transaction more;
    const uint64_t ino = kFirstMany + i;
    more.put_struct(inode_key(ino), inode(S_IFREG | 0600, 1));
    put_xattr(more, ino, "user.many", std::vector<std::byte>(900));
    name(more, kDirectory, "many" + std::to_string(i), ino, DT_REG);
    REQUIRE(store.commit(more, false).ok());
  }
  uint64_t highest = 0;
  while (highest < kFirstMany + kManyCount) highest = store.new_ino().value;
}

void CheckFixture::populate_names(Transaction& transaction) {
  DiskInode root = inode(S_IFDIR | 0755, 3);
  root.parent = 1;
  transaction.put_struct(inode_key(1), root);
  DiskInode directory = inode(S_IFDIR | 0755, 2);
  directory.parent = 1;
  transaction.put_struct(inode_key(kDirectory), directory);
  name(transaction, 1, "directory", kDirectory, DT_DIR);
  name(transaction, 1, "file", kFile, DT_REG);
  name(transaction, 1, "symlink", kSymlink, DT_LNK);
  name(transaction, 1, "device", kDevice, DT_CHR);
  name(transaction, 1, "hardlink", kHardLink, DT_REG);
  name(transaction, kDirectory, "hardlink too", kHardLink, DT_REG);
  name(transaction, 1, "truncated", kTruncated, DT_REG);
  name(transaction, 1, "shared a", kSharedA, DT_REG);
  name(transaction, 1, "shared b", kSharedB, DT_REG);

  transaction.put_struct(inode_key(kSymlink), inode(S_IFLNK | 0777, 1, 1500));
  const std::vector<std::byte> target(1500, std::byte{'x'});
  transaction.put(Key(Ino(kSymlink), ItemKind::inline_data, 0), std::span(target).first(1000));
  transaction.put(Key(Ino(kSymlink), ItemKind::inline_data, 1000), std::span(target).first(500));
  DiskInode device = inode(S_IFCHR | 0600, 1);
  device.device = (1u << 20) | 3;
  transaction.put_struct(inode_key(kDevice), device);
  transaction.put_struct(inode_key(kHardLink), inode(S_IFREG | 0644, 2));
}

BlockRange CheckFixture::write_data(Store& store, Transaction& transaction, uint64_t length,
                                    std::vector<Tuple>* tuples) {
  auto reservation = store.reserve_space(length);
  REQUIRE(reservation.ok());
  const BlockRange range = store.allocate(*reservation, length, Lba(0)).value();
  REQUIRE(range.length_blocks == length);
  transaction.allocate(range);
  if (tuples == nullptr) return range;
  AlignedBuffer data(length * kBlockSize);
  Prng prng(range.start.value);
  for (std::byte& b : data.span()) b = static_cast<std::byte>(prng.next());
  REQUIRE(device_.write(range.start, data.span()).ok());
  tuples->resize(length * tuples_per_block(store.interval()));
  generate_tuples(data.span(), range.start, store.interval(), 0, *tuples);
  return range;
}

void CheckFixture::put_extent(Transaction& transaction, uint64_t ino, uint64_t block,
                              BlockRange range, uint32_t flags, const std::vector<Tuple>& tuples) {
  DiskExtent extent;
  extent.lba = range.start.value;
  extent.length_blocks = static_cast<uint32_t>(range.length_blocks);
  extent.flags = flags;
  std::vector<std::byte> value(sizeof extent);
  std::memcpy(value.data(), &extent, sizeof extent);
  if ((flags & kExtentTuplesInline) != 0) {
    const auto bytes = std::as_bytes(std::span(tuples));
    value.insert(value.end(), bytes.begin(), bytes.end());
  }
  transaction.put(extent_key(ino, block), value);
}

void CheckFixture::put_tuples(Store& store, Transaction& transaction, BlockRange range,
                              const std::vector<Tuple>& tuples) {
  const uint64_t per_block = tuples_per_block(store.interval());
  const uint64_t blocks_per_item = kMaxTuplesPerItem / per_block;
  for (uint64_t done = 0; done < range.length_blocks; done += blocks_per_item) {
    const uint64_t count = std::min(blocks_per_item, range.length_blocks - done);
    transaction.put(Key::global(ItemKind::tuples, range.start.value + done),
                    std::as_bytes(std::span(tuples).subspan(done * per_block, count * per_block)));
  }
}

void CheckFixture::populate_data(Store& store, Transaction& transaction) {
  std::vector<Tuple> tuples;
  inline_blocks = write_data(store, transaction, 3, &tuples);
  put_extent(transaction, kFile, 0, inline_blocks, kExtentTuplesInline, tuples);
  keyed_blocks = write_data(store, transaction, 100, &tuples);
  put_extent(transaction, kFile, 10, keyed_blocks, 0, {});
  put_tuples(store, transaction, keyed_blocks, tuples);
  unwritten_blocks = write_data(store, transaction, 7, nullptr);
  put_extent(transaction, kFile, 200, unwritten_blocks, kExtentUnwritten, {});
  transaction.put_struct(inode_key(kFile), inode(S_IFREG | 0644, 1, 109 * kBlockSize + 1, 110));

  shared_blocks = write_data(store, transaction, 4, &tuples);
  for (uint64_t ino : {kSharedA, kSharedB}) {
    put_extent(transaction, ino, ino == kSharedA ? 0 : 5, shared_blocks, kExtentTuplesInline,
               tuples);
    transaction.put_struct(inode_key(ino), inode(S_IFREG | 0644, 1, 9 * kBlockSize, 4));
  }
  DiskReference reference;
  reference.length_blocks = 4;
  reference.count = 2;
  transaction.put_struct(Key::global(ItemKind::reference, shared_blocks.start.value), reference);
}

void CheckFixture::populate_orphans(Store& store, Transaction& transaction) {
  std::vector<Tuple> tuples;
  BlockRange range = write_data(store, transaction, 2, &tuples);
  put_extent(transaction, kRemoved, 3, range, kExtentTuplesInline, tuples);
  transaction.put_struct(inode_key(kRemoved), inode(S_IFREG | 0644, 0, 0, 2));
  DiskOrphan orphan{};
  orphan.intent = static_cast<uint8_t>(OrphanIntent::remove);
  transaction.put_struct(Key::global(ItemKind::orphan, kRemoved), orphan);

  range = write_data(store, transaction, 5, &tuples);
  put_extent(transaction, kTruncated, 0, range, kExtentTuplesInline, tuples);
  transaction.put_struct(inode_key(kTruncated), inode(S_IFREG | 0644, 1, 2 * kBlockSize, 5));
  orphan.intent = static_cast<uint8_t>(OrphanIntent::truncate);
  orphan.start_block = 2;
  transaction.put_struct(Key::global(ItemKind::orphan, kTruncated), orphan);
}

}  // namespace stablefs
