// SPDX-License-Identifier: GPL-2.0-or-later
// Every state in which a power failure may have left the recorded device, or a chosen number of
// them, evenly over the log.
//
// Crashes are looked at where the most can be lost: just before something becomes durable (a flush
// or a FUA write completes), with marks also just before the next mark, and at the end of the log.
// What could have been found at any other moment can be found at the next of these too. There, each
// write that a crash may lose is kept, dropped or torn at 512 bytes; see CrashVariant. The same
// log, seed and id always give the same state. Single-threaded; the log must outlive the object.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/prng.h"
#include "base/result.h"
#include "device/image_overlay.h"
#include "device/io_log.h"
#include "device/io_replay.h"

namespace stablefs {

// With n writes that may be lost at that moment.
enum class CrashVariant : uint8_t {
  nothing,  // none of them arrived
  all,      // all arrived
  prefix,   // number 0 .. n-2: those up to this one arrived
  missing,  // number 0 .. n-1: all but this one
  torn,     // number 0 .. 2n-1: write number/2 is torn; even: nothing behind it arrived,
            // odd: everything else did
  subset,   // each kept or dropped, some series torn: chosen by seed and number
};

// Names a state of a log, given the seed: "1234.missing.3".
struct CrashStateId {
  uint64_t event = 0;  // the crash comes after this many events of the log
  CrashVariant variant = CrashVariant::nothing;
  uint64_t number = 0;

  bool operator==(const CrashStateId&) const = default;
  std::string text() const;
  static Result<CrashStateId> parse(std::string_view text);
};

struct CrashState {
  CrashStateId id;
  ImageOverlay image;  // over what was durable
  uint64_t marks = 0;  // recorded before the crash
  std::string last_mark;
  // What a crash might have lost, and what became of each. The first `unflushed` had completed.
  std::vector<const VolatileCache::Event*> events;
  std::vector<WriteFate> fates;
  size_t unflushed = 0;

  std::string describe() const;  // a line per event
};

struct CrashImageOptions {
  uint64_t images = 1000;  // at most this many
  uint64_t seed = 1;
  // Equal contents with different marks are different states: for checks that depend on marks.
  bool by_mark = false;
};

class CrashImages {
 public:
  CrashImages(const IoLog& log, MemoryImage base, const CrashImageOptions& options);
  CrashImages(const CrashImages&) = delete;
  CrashImages& operator=(const CrashImages&) = delete;

  // The next state that was not there before; nothing: that was all. It refers to this object and
  // is valid until the next call.
  std::optional<CrashState> next();
  // This state, seen before or not. Going on with next() is not possible afterwards.
  Result<CrashState> state(const CrashStateId& id);

  uint64_t moments() const { return moments_.size(); }
  uint64_t candidates() const { return candidates_; }  // of all moments, equal ones included
  uint64_t repeated() const { return repeated_; }      // left out because seen before

 private:
  struct Moment {
    size_t event;
    uint64_t candidates;
    uint64_t share = 0;  // how many of them are wanted in this round
    uint64_t tried = 0;  // in its own order, which is always the same
    bool extremes_first = false;
  };
  using Variant = std::pair<CrashVariant, uint64_t>;

  void find_moments();
  void share_out(uint64_t images);
  bool begin_next_moment();
  bool begin_next_round();
  void rewind();
  void step_to(size_t event);
  void touch(DeviceOp op, BlockRange range);
  void update_durable_hash();
  uint64_t block_hash(uint64_t lba, const MemoryImage::PageRef& page);
  bool is_new(const CrashState& state);
  Prng prng_of(const CrashStateId& id) const;
  std::vector<Variant> variants_of(const Moment& moment, uint64_t losable_count) const;
  CrashState make_state(const CrashStateId& id) const;

  const IoLog& log_;
  const MemoryImage base_;
  const CrashImageOptions options_;
  std::vector<Moment> moments_;
  uint64_t candidates_ = 0;
  uint64_t repeated_ = 0;

  IoReplay replay_;
  size_t position_ = 0;  // events replayed
  uint64_t marks_ = 0;
  std::string last_mark_;

  uint32_t round_ = 0;
  size_t next_moment_ = 0;
  std::vector<Variant> variants_;  // those left of the current moment, the next one last
  uint64_t wanted_ = 0;            // states of it and, carried on, of those before

  // The hash of a state is a sum over blocks, so only blocks that changed cost anything.
  uint64_t durable_hash_ = 0;
  std::unordered_map<uint64_t, uint64_t> durable_block_hashes_;  // of blocks written since the base
  std::vector<uint64_t> touched_;                                // blocks to look at again
  std::unordered_map<MemoryImage::PageRef, uint64_t> page_hashes_;
  std::unordered_set<uint64_t> seen_;
};

}  // namespace stablefs
