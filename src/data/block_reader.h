// SPDX-License-Identifier: GPL-2.0-or-later
// Reads written runs of one file from the device into private memory and verifies them. Nothing is
// handed on that does not match its tuples: one look at the mapping and one read more, then an
// error that names the place, a line in the log, and an entry on the damage list.
#pragma once

#include <deque>
#include <span>
#include <string>
#include <vector>

#include "data/context_impl.h"
#include "data/extent_map.h"

namespace stablefs {

class BlockReader {
 public:
  // The blocks a lookup finds from now on are not reused before the reader is gone.
  BlockReader(ContextImpl& context, const ExtentMap& extents, InodeState& inode)
      : context_(context), extents_(extents), inode_(inode), pin_(context.store().pin()) {}

  // `memory`: 4 KiB-aligned, exactly as long as the run, private to us until finish() returns.
  void add(Run run, std::span<std::byte> memory) { reads_.push_back({std::move(run), memory}); }
  // Once, with no lock held above a range ticket.
  Status finish();

 private:
  struct Read {
    Run run;
    std::span<std::byte> memory;
    Status status{};
    iovec part{};
    DeviceRequest request{};
  };
  // A block that could not be had.
  struct Finding {
    DamageEntry entry;
    uint64_t offset_bytes;  // in the file
    ErrorCode code;
    std::string what;
  };
  Status read_and_verify();
  void read_all();
  std::optional<Mismatch> verify(const Run& run, std::span<const std::byte> memory);
  Status read_again(const Read& read);
  Status read_run_again(const Run& run, std::span<std::byte> memory, bool failed);
  Status read_block(const Run& block, std::span<std::byte> memory);
  Status check_block(const Run& block, std::span<const std::byte> memory);
  Error error_of(const Finding& finding, const std::string& path) const;
  Status add_finding(const Run& block, Finding finding);
  DamageList::Added put_on_list(const DamageEntry& entry);
  void report(const Finding& finding);

  ContextImpl& context_;
  const ExtentMap& extents_;
  InodeState& inode_;
  ReadPin pin_;
  std::deque<Read> reads_;
  std::vector<Finding> findings_;
};

}  // namespace stablefs
