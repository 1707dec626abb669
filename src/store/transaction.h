// SPDX-License-Identifier: GPL-2.0-or-later
// A transaction: operations that become visible and durable together. A plain builder; nothing
// happens before Store::commit.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/ids.h"
#include "format/journal.h"
#include "format/key.h"

namespace stablefs {

// Largest encoded transaction. Longer work is a chain of transactions with an intent (orphan item).
inline constexpr uint32_t kMaxTransactionBytes = 192 * 1024;

class Transaction {
 public:
  void put(const Key& key, std::span<const std::byte> value);
  template <class T>
  void put_struct(const Key& key, const T& value) {
    put(key, std::as_bytes(std::span<const T, 1>(&value, 1)));
  }
  void erase(const Key& key);  // a missing key is our own mistake: asserted when applied
  // The blocks become referenced; they came from Store::allocate and are consumed by the commit.
  void allocate(BlockRange range);
  // The blocks are no longer referenced; reusable once this transaction is durable.
  void free(BlockRange range);
  // CRC32C of the data just written to `range` (one per block), for recovery of a commit whose
  // data and journal share one flush.
  void data_checksums(BlockRange range, std::span<const uint32_t> checksums);

  bool empty() const { return op_count_ == 0; }
  uint32_t op_count() const { return op_count_; }
  size_t size_bytes() const { return body_.size(); }
  std::span<const std::byte> body() const { return body_; }
  // The transaction maps data the device may still hold in its volatile cache: the committer must
  // flush before the batch counts (seeds 3).
  bool maps_data() const { return maps_data_; }
  int64_t blocks_allocated() const { return blocks_allocated_; }

 private:
  std::vector<std::byte> body_;
  uint32_t op_count_ = 0;
  bool maps_data_ = false;
  int64_t blocks_allocated_ = 0;
};

}  // namespace stablefs
