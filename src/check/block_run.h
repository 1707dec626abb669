// SPDX-License-Identifier: GPL-2.0-or-later
// Turns findings about single blocks, given in ascending order, into one problem a run.
#pragma once

#include <string>
#include <utility>

#include "check/reporter.h"

namespace stablefs {

class BlockRunReporter {
 public:
  // `context` is put behind the blocks: "blocks 7+2 (inode 12)".
  BlockRunReporter(Reporter& reporter, ProblemId id, std::string context)
      : reporter_(reporter), id_(id), context_(std::move(context)) {}
  ~BlockRunReporter() { finish(); }
  BlockRunReporter(const BlockRunReporter&) = delete;
  BlockRunReporter& operator=(const BlockRunReporter&) = delete;

  void add(uint64_t lba) {
    if (run_.length_blocks != 0 && run_.end().value == lba) {
      ++run_.length_blocks;
      return;
    }
    finish();
    run_ = {Lba(lba), 1};
  }
  void finish() {
    if (run_.length_blocks == 0) return;
    std::string where = range_to_text(run_);
    if (!context_.empty()) where += " (" + context_ + ")";
    reporter_.add(id_, std::move(where));
    run_ = {};
  }

 private:
  Reporter& reporter_;
  const ProblemId id_;
  const std::string context_;
  BlockRange run_;
};

}  // namespace stablefs
