// SPDX-License-Identifier: GPL-2.0-or-later
// One extent item in memory. What is read from the tree is validated here.
#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "integrity/tuple.h"
#include "store/store.h"
#include "store/transaction.h"

namespace stablefs {

struct Extent {
  uint64_t first_block = 0;  // of the file
  Lba lba;
  uint32_t length_blocks = 0;
  bool unwritten = false;
  bool inline_tuples = false;  // tuples are here; else keyed by LBA (unwritten: none at all)
  std::vector<Tuple> tuples;

  uint64_t end_block() const { return first_block + length_blocks; }
  BlockRange range() const { return {lba, length_blocks}; }
  bool keyed() const { return !unwritten && !inline_tuples; }

  // The part inside [first, end), which must overlap; of the same kind.
  Extent part(uint64_t first, uint64_t end, Interval interval) const;
  // `next` continues this one in the file and on the device and may be the same item.
  bool mergeable(const Extent& next) const;
};

Key extent_key(Ino ino, uint64_t block);
// extent_invalid when the value makes no sense.
Result<Extent> parse_extent(const Item& item, Interval interval);
void put_extent(Transaction& transaction, Ino ino, const Extent& extent);
// Bytes put_extent adds to a transaction.
size_t extent_operation_bytes(uint32_t inline_tuple_count);

}  // namespace stablefs
