// SPDX-License-Identifier: GPL-2.0-or-later
// Bringing nodes and bitmaps into memory. No lock is held during I/O.
#include <fmt/format.h>

#include "store/store_impl.h"

namespace stablefs {

// A clean node's address never changes, so it is read without the lock. Both copies are tried.
Result<AlignedBuffer> StoreImpl::read_node(const NodeRef& node) {
  AlignedBuffer image(kBlockSize);
  Status status;
  for (Lba lba : node->lba) {
    if (lba.value == 0) continue;
    counters_.node_reads.fetch_add(1, std::memory_order_relaxed);
    status = device_.read(lba, image.span());
    if (status.ok()) status = validate_node(image.span(), node->address(), node->level);
    if (status.ok()) return image;
    options_.logger->write(LogLevel::error, fmt::format("tree node at block {}: {}", lba.value,
                                                        status.error().message()));
  }
  return status.error();
}

Status StoreImpl::fault_in(const NodeRef& node) {
  {
    SharedLock lock(tree_mutex_);
    if (node->loaded() || node->state != NodeState::clean) return {};
  }
  AlignedBuffer image = FS_TRY(read_node(node));
  ExclusiveLock lock(tree_mutex_);
  tree_.install(node, std::move(image));
  uint64_t limit = options_.node_cache_bytes / kBlockSize;
  if (tree_.loaded_leaves() > limit) counters_.node_evictions += tree_.evict(limit, 64);
  return {};
}

// A node can be replaced and its block reused while it is being read: only a node that is still
// the one looked for after a failure is really bad.
Status StoreImpl::fault_in_for_read(const NodeRef& node, NodeRef& failed) {
  Status status = fault_in(node);
  if (status.ok()) return status;
  if (node == failed) return status;
  failed = node;
  return {};
}

Status StoreImpl::load_group(uint32_t group) {
  uint32_t slot, checksum;
  {
    MutexLock lock(space_mutex_);
    if (space_.loaded(group)) return {};
    slot = space_.entry(group).free_and_slot >> 31;
    checksum = space_.entry(group).checksum;
  }
  AlignedBuffer bitmap(kBlockSize);
  Lba lba(superblock_.bitmap_start + 2 * uint64_t{group} + slot);
  FS_TRY(device_.read(lba, bitmap.span()));
  if (crc32c(0, bitmap.span()) != checksum) {
    return Error(ErrorCode::bitmap_checksum, fmt::format("group {}, block {}", group, lba.value));
  }
  MutexLock lock(space_mutex_);
  space_.install(group, bitmap.span());
  return {};
}

}  // namespace stablefs
