// SPDX-License-Identifier: GPL-2.0-or-later
// Reads written runs of one file from the device into private memory and verifies them. Nothing is
// handed on that does not match its tuples: one look at the mapping and one read more, then an
// error that names the place.
#pragma once

#include <deque>
#include <span>

#include "data/context_impl.h"
#include "data/extent_map.h"

namespace stablefs {

class BlockReader {
 public:
  // The blocks a lookup finds from now on are not reused before the reader is gone.
  BlockReader(ContextImpl& context, const ExtentMap& extents, Ino ino)
      : context_(context), extents_(extents), ino_(ino), pin_(context.store().pin()) {}

  // `memory`: 4 KiB-aligned, exactly as long as the run, private to us until finish() returns.
  void add(Run run, std::span<std::byte> memory) { reads_.push_back({std::move(run), memory}); }
  Status finish();

 private:
  struct Read {
    Run run;
    std::span<std::byte> memory;
    Status status{};
    iovec part{};
    DeviceRequest request{};
  };
  void read_all();
  std::optional<Mismatch> verify(const Run& run, std::span<const std::byte> memory);
  Status read_again(const Read& read);
  Error report(const Run& run, const Mismatch& mismatch);

  ContextImpl& context_;
  const ExtentMap& extents_;
  const Ino ino_;
  ReadPin pin_;
  std::deque<Read> reads_;
};

}  // namespace stablefs
