// SPDX-License-Identifier: GPL-2.0-or-later
// The filesystem checker: reads everything, changes nothing.
//
// Passes: superblock slots, journal chain, the checkpoint's tree and space maps straight from the
// device; then, through a read-only store that has replayed the journal in memory, every item, and
// what items owe each other and the space maps. Later passes are left out when an earlier one makes
// their findings meaningless (CheckReport::incomplete).
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/clock.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/result.h"
#include "device/block_device.h"

namespace stablefs {

enum class ProblemId : uint16_t {
#define STABLEFS_PROBLEM(name, severity, text) name,
#include "check/problems.def"
#undef STABLEFS_PROBLEM
};
enum class Severity : uint8_t { degraded, error };

const char* problem_name(ProblemId id);  // "block_leaked"
const char* problem_text(ProblemId id);
Severity problem_severity(ProblemId id);

struct Problem {
  ProblemId id;
  std::string where;  // "inode 12 (/usr/bin)", "blocks 100+3", "superblock slot 2"
  std::string what;   // details; may be empty

  std::string text() const;  // one line: name, where, text, what
};

struct CheckOptions {
  bool verify_data = false;  // read every written block and verify its tuples
  std::function<void(const char* pass, uint64_t done, uint64_t total)> progress;
  std::function<void(const Problem&)> report;
};

struct CheckReport {
  uint64_t problems = 0;  // of severity error
  uint64_t degraded = 0;
  bool unreadable = false;  // damage kept the store from being opened
  bool incomplete = false;  // some passes were left out

  uint64_t nodes = 0, items = 0, inodes = 0, directories = 0, files = 0, symlinks = 0, others = 0;
  uint64_t entries = 0, extents = 0, data_blocks = 0, unwritten_blocks = 0, orphans = 0;
  uint64_t damaged_blocks = 0;  // on the damage list
  uint64_t journal_batches = 0, replayed_records = 0, verified_blocks = 0;
  uint64_t total_blocks = 0, free_blocks = 0;

  bool clean() const { return problems == 0 && !unreadable; }
};

// Errors: only what keeps the check from starting, as a device without any superblock.
Result<CheckReport> check_filesystem(BlockDevice& device, const CheckOptions& options, Clock& clock,
                                     Logger& logger);

}  // namespace stablefs
