// SPDX-License-Identifier: GPL-2.0-or-later
// The persistence contract (man/stablefs.5) as a judge: may a crash at this moment of this history
// leave this tree?
//
// Threads own their names and files, so what one did commutes with what the others did; each
// thread's part must be a prefix of its own metadata history, and all of them together a prefix of
// history: what was answered before something visible was called is visible too.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "sim/tree.h"

namespace stablefs::sim {

using EventLog = std::vector<Event>;

// The moment of a crash. Between both times other threads may have gone on.
struct Cut {
  uint64_t before = 0;  // replies before this time had been given
  uint64_t after = 0;   // calls before this time may have been made
};

class History {
 public:
  History() = default;
  // `base`: what was durable when it began.
  History(const Tree& base, uint64_t threads);

  std::vector<EventLog>& logs() { return logs_; }
  const std::vector<EventLog>& logs() const { return logs_; }
  const Tree& base(uint64_t thread) const { return bases_[thread]; }
  std::string text() const;

  // What is wrong, or nothing.
  std::optional<std::string> judge(const Cut& cut, const Tree& found) const;

 private:
  // What a thread's part may stand for: its metadata operations before `end` have happened.
  struct Candidate {
    uint64_t end = 0;
    int64_t last_visible = -1;  // number of an event that is seen for certain
  };
  struct Limits {
    std::vector<uint64_t> floor;   // per thread: events before this one have happened
    std::vector<uint64_t> called;  // per thread: events that had been called
    // Per thread and event: the files (0: all) whose data up to it is durable.
    std::vector<std::vector<std::set<NodeId>>> sync;
  };
  Limits limits(const Cut& cut) const;
  std::vector<Candidate> candidates(uint64_t thread, const Limits& limits, const Tree& part,
                                    std::string& wrong) const;
  std::optional<std::string> judge_files(uint64_t thread, const Limits& limits, uint64_t end,
                                         const Tree& expected, const Tree& part,
                                         int64_t& last_visible) const;
  std::optional<std::string> judge_file(uint64_t thread, const Limits& limits, uint64_t end,
                                        NodeId node, const std::string& content,
                                        int64_t& last_visible) const;
  bool consistent(uint64_t one, const Candidate& seen, uint64_t other, uint64_t other_end) const;

  std::vector<Tree> bases_;
  std::vector<EventLog> logs_;
};

}  // namespace stablefs::sim
