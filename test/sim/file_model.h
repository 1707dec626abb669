// SPDX-License-Identifier: GPL-2.0-or-later
// What the persistence contract lets one file look like after a crash.
//
// Built by telling it, in order, what happened to the file. Each block keeps every version it had
// since the file was last synced; after a crash it shows one of them, whichever. The size may have
// stayed behind too, but covers nothing that did not arrive.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace stablefs::sim {

class FileModel {
 public:
  explicit FileModel(std::string content);  // durable, from before all events

  // `event`: its number in the history, for what is found out below.
  void write(uint64_t event, uint64_t offset, const std::string& bytes);
  // A range that became zero; what grows it is no data that has to arrive.
  void zero(uint64_t event, uint64_t offset, uint64_t length, bool keep_size);
  // To at least `size`, by something that has no data: it need not have happened after a crash.
  void grow(uint64_t size);
  void truncate(uint64_t size);  // a metadata operation that has happened
  void sync();                   // everything so far is durable

  // What is wrong with what was found; nothing: it is allowed, and `last_visible` is raised to the
  // number of the latest write that must have arrived.
  std::optional<std::string> judge(const std::string& found, int64_t& last_visible) const;

 private:
  using Block = std::string;  // 4096 bytes
  struct Version {
    Block content;
    int64_t event;
  };
  // A write that made the file longer, not yet synced.
  struct Extension {
    int64_t event;
    uint64_t first_new_byte, end;
  };

  std::vector<Version>& versions(uint64_t block);
  void change(uint64_t event, uint64_t offset, const std::string& bytes);
  bool possible_size(uint64_t size) const;
  std::optional<std::string> judge_block(uint64_t block, const std::string& found,
                                         int64_t& last_visible) const;
  std::string explain(uint64_t block, const std::string& found, int64_t required) const;

  std::map<uint64_t, std::vector<Version>> blocks_;  // absent: never anything but zeros
  std::vector<Extension> extensions_;
  std::set<uint64_t> sizes_;  // that the file had since it was synced
  uint64_t size_;             // the newest
  uint64_t size_floor_;       // the least that may be found
};

}  // namespace stablefs::sim
