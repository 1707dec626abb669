// SPDX-License-Identifier: GPL-2.0-or-later
#include "sim/oracle.h"

#include <fmt/format.h>

#include <algorithm>

#include "sim/file_model.h"

namespace stablefs::sim {

History::History(const Tree& base, uint64_t threads) : logs_(threads) {
  for (uint64_t thread = 0; thread < threads; ++thread) {
    bases_.push_back(base.part(owner_prefix(thread)));
  }
}

std::string History::text() const {
  std::string text;
  for (uint64_t thread = 0; thread < logs_.size(); ++thread) {
    text += fmt::format("thread {} starts with\n{}{}", thread, bases_[thread].names_text(),
                        bases_[thread].contents_text());
    for (uint64_t i = 0; i < logs_[thread].size(); ++i) {
      text += fmt::format("  {:3} {}\n", i, logs_[thread][i].text());
    }
  }
  return text;
}

History::Limits History::limits(const Cut& cut) const {
  Limits limits;
  limits.floor.resize(logs_.size());
  limits.called.resize(logs_.size());
  limits.sync.resize(logs_.size());
  for (uint64_t i = 0; i < logs_.size(); ++i) {
    limits.sync[i].resize(logs_[i].size());
    for (const Event& event : logs_[i]) limits.called[i] += event.invoked < cut.after;
  }
  for (uint64_t i = 0; i < logs_.size(); ++i) {
    for (uint64_t n = 0; n < logs_[i].size(); ++n) {
      const Event& event = logs_[i][n];
      const bool syncs =
          event.kind == EventKind::fsync || event.kind == EventKind::syncfs || event.synchronous;
      if (!syncs || event.replied >= cut.before) continue;
      limits.floor[i] = n + 1;
      for (uint64_t j = 0; j < logs_.size(); ++j) {
        uint64_t answered = 0;
        for (const Event& other : logs_[j]) answered += other.replied < event.invoked;
        limits.floor[j] = std::max(limits.floor[j], answered);
        if (answered == 0) continue;
        if (event.kind == EventKind::syncfs) limits.sync[j][answered - 1].insert(0);
        if (event.foreign) limits.sync[j][answered - 1].insert(event.node);
      }
    }
  }
  return limits;
}

std::optional<std::string> History::judge(const Cut& cut, const Tree& found) const {
  const Limits limits = this->limits(cut);
  std::vector<std::vector<Candidate>> all;
  for (uint64_t thread = 0; thread < logs_.size(); ++thread) {
    std::string wrong;
    all.push_back(candidates(thread, limits, found.part(owner_prefix(thread)), wrong));
    if (all.back().empty()) return fmt::format("thread {}: {}", thread, wrong);
  }
  // Any combination that is a prefix of history will do.
  std::vector<size_t> pick(all.size(), 0);
  while (true) {
    bool good = true;
    for (uint64_t i = 0; i < all.size(); ++i) {
      for (uint64_t j = 0; j < all.size() && good; ++j) {
        good = i == j || consistent(i, all[i][pick[i]], j, all[j][pick[j]].end);
      }
    }
    if (good) return std::nullopt;
    size_t at = 0;
    while (at < pick.size() && ++pick[at] == all[at].size()) pick[at++] = 0;
    if (at == pick.size()) break;
  }
  std::string text = "no prefix of history:";
  for (uint64_t i = 0; i < all.size(); ++i) {
    text += fmt::format(" thread {} up to", i);
    for (const Candidate& candidate : all[i]) text += fmt::format(" {}", candidate.end);
  }
  return text;
}

// Whatever was answered before the last thing seen of `one` was called must be seen.
bool History::consistent(uint64_t one, const Candidate& seen, uint64_t other,
                         uint64_t other_end) const {
  if (seen.last_visible < 0) return true;
  const uint64_t called = logs_[one][static_cast<uint64_t>(seen.last_visible)].invoked;
  const EventLog& log = logs_[other];
  for (uint64_t n = other_end; n < log.size() && log[n].replied < called; ++n) {
    if (log[n].is_metadata()) return false;
  }
  return true;
}

std::vector<History::Candidate> History::candidates(uint64_t thread, const Limits& limits,
                                                    const Tree& part, std::string& wrong) const {
  const EventLog& log = logs_[thread];
  const uint64_t called = limits.called[thread];
  const std::string found_names = part.names_text();
  std::vector<Candidate> result;
  Tree expected = bases_[thread];
  int64_t last_metadata = -1;
  std::string first_names;
  for (uint64_t n = 0; n <= called; ++n) {
    // Before the next metadata operation; what comes after it in history cannot be seen yet.
    const bool boundary = n == called || log[n].is_metadata();
    if (boundary && n >= limits.floor[thread]) {
      const std::string names = expected.names_text();
      if (first_names.empty()) first_names = names;
      if (names == found_names) {
        Candidate candidate{n, last_metadata};
        auto failure = judge_files(thread, limits, n, expected, part, candidate.last_visible);
        if (!failure) result.push_back(candidate);
        if (failure) wrong += fmt::format("\n  as of event {}: {}", n, *failure);
      }
    }
    if (n == called) break;
    expected.apply(log[n]);
    if (log[n].is_metadata()) last_metadata = static_cast<int64_t>(n);
  }
  if (result.empty() && wrong.empty()) {
    wrong = fmt::format(
        "the names are those of no moment from event {} to {}:\n{}"
        "the first allowed is\n{}the last\n{}",
        limits.floor[thread], called, found_names, first_names, expected.names_text());
  }
  return result;
}

std::optional<std::string> History::judge_files(uint64_t thread, const Limits& limits, uint64_t end,
                                                const Tree& expected, const Tree& part,
                                                int64_t& last_visible) const {
  for (const auto& [path, node] : expected.names) {
    if (expected.nodes.at(node).type != NodeType::file) continue;
    const std::string& content = part.nodes.at(part.names.at(path)).content;
    if (auto wrong = judge_file(thread, limits, end, node, content, last_visible)) {
      return path + " " + *wrong;
    }
  }
  return std::nullopt;
}

std::optional<std::string> History::judge_file(uint64_t thread, const Limits& limits, uint64_t end,
                                               NodeId node, const std::string& content,
                                               int64_t& last_visible) const {
  const Tree& base = bases_[thread];
  const auto before = base.nodes.find(node);
  FileModel file(before == base.nodes.end() ? std::string() : before->second.content);
  const EventLog& log = logs_[thread];
  for (uint64_t n = 0; n < end; ++n) {
    const Event& event = log[n];
    const bool mine = event.node == node;
    if (mine && event.kind == EventKind::write) {
      file.write(n, event.offset, event.bytes);
      // Answered before something that is durable was called.
      if (event.synchronous && n < limits.floor[thread]) file.sync();
    }
    if (mine && event.kind == EventKind::zero) {
      file.zero(n, event.offset, event.size, event.keep_size);
    }
    if (mine && event.kind == EventKind::allocate && !event.keep_size) {
      file.grow(event.offset + event.size);
    }
    if (mine && event.kind == EventKind::truncate) file.truncate(event.size);
    const bool synced = event.kind == EventKind::fsync && n < limits.floor[thread];
    if (mine && synced) file.sync();
    if (mine && event.kind == EventKind::rename && event.replaces) file.sync();
    const std::set<NodeId>& durable = limits.sync[thread][n];
    if (durable.contains(0) || durable.contains(node)) file.sync();
  }
  return file.judge(content, last_visible);
}

}  // namespace stablefs::sim
