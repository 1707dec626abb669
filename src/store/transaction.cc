// SPDX-License-Identifier: GPL-2.0-or-later
#include "store/transaction.h"

namespace stablefs {

void Transaction::put(const Key& key, std::span<const std::byte> value) {
  FS_ASSERT(value.size() <= kMaxValueBytes);
  append_put(body_, key, value);
  ++op_count_;
}

void Transaction::erase(const Key& key) {
  append_erase(body_, key);
  ++op_count_;
}

void Transaction::allocate(BlockRange range) {
  FS_ASSERT(range.length_blocks != 0);
  append_range(body_, JournalOp::allocate, range);
  ++op_count_;
  maps_data_ = true;
  blocks_allocated_ += static_cast<int64_t>(range.length_blocks);
}

void Transaction::free(BlockRange range) {
  FS_ASSERT(range.length_blocks != 0);
  append_range(body_, JournalOp::free, range);
  ++op_count_;
  blocks_allocated_ -= static_cast<int64_t>(range.length_blocks);
}

void Transaction::data_checksums(BlockRange range, std::span<const uint32_t> checksums) {
  FS_ASSERT(checksums.size() == range.length_blocks);
  append_data_checksums(body_, range, checksums);
  ++op_count_;
  maps_data_ = true;  // perhaps into blocks that an earlier transaction has allocated
}

}  // namespace stablefs
