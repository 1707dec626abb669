// SPDX-License-Identifier: GPL-2.0-or-later
// Reads every mapped written block and verifies its tuples: many requests in flight, each up to
// 1 MiB. Blocks with several owners are read once, but for those with a tuple in each extent.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "check/block_set.h"
#include "check/ledger.h"
#include "check/scanner.h"
#include "integrity/tuple.h"

namespace stablefs {

class DataPass {
 public:
  // `where`: how to call an inode in a report.
  DataPass(BlockDevice& device, Store& store, Reporter& reporter,
           std::function<std::string(uint64_t ino)> where);

  void run(Scanner& scanner, uint64_t total_blocks);

 private:
  // Adjacent blocks of one file; tuples_per_block tuples each, empty where a block has none.
  struct Piece {
    uint64_t ino = 0;
    uint64_t file_block = 0;
    BlockRange range;
    std::vector<Tuple> tuples;
    std::vector<bool> has_tuples;  // by block
    AlignedBuffer buffer;
    Status status;
  };

  void visit_extent(const Item& item);
  uint64_t take_unread(BlockRange range);
  void load_tuples(Piece& piece);
  void flush();
  void read_pieces();
  void verify(Piece& piece);
  void verify_block(const Piece& piece, uint64_t index, std::span<const std::byte> block);
  std::string block_text(const Piece& piece, uint64_t index);

  BlockDevice& device_;
  Store& store_;
  Reporter& reporter_;
  const std::function<std::string(uint64_t)> where_;
  const uint64_t per_block_;  // tuples
  std::vector<Piece> pieces_;
  BlockSet read_;  // of extents without tuples in them
  uint64_t queued_blocks_ = 0;
  uint64_t total_blocks_ = 0;
};

}  // namespace stablefs
