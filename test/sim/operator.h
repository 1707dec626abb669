// SPDX-License-Identifier: GPL-2.0-or-later
// Carries out events on a mounted filesystem and keeps the books: the log for the judge, and the
// tree as it should be now.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "fs/file_system.h"
#include "sim/oracle.h"
#include "sim/tree.h"

namespace stablefs::sim {

struct OpenFile {
  NodeId node = 0;
  Ino ino;
  HandleId handle = 0;
  bool synchronous = false;
};

class Operator {
 public:
  // `time` moves with every call and reply and may be shared, `log` is this one's own.
  // `on_promise` is called when something has just been promised to be durable.
  Operator(FileSystem& fs, const Tree& tree, EventLog& log, uint64_t& time,
           std::function<void()> on_promise)
      : fs_(fs), tree_(tree), log_(log), time_(time), on_promise_(std::move(on_promise)) {}

  // False: it failed for want of space. With `file`, through that open file instead of the path.
  bool perform(Event event, const OpenFile* file = nullptr);
  Result<OpenFile> open(const std::string& path, bool synchronous);
  // The file made without a name; nothing: there was no space.
  std::optional<OpenFile> create_unnamed(Event event);
  Status close(const OpenFile& file);
  // What must fail, and does.
  void expect_not_empty(const std::string& directory);
  void compare_contents(const std::string& path);

  const Tree& tree() const { return tree_; }
  Ino ino_of(NodeId node) const;
  const std::string& complaint() const { return complaint_; }  // what no filesystem may do
  void complain(const Event& event, const std::string& what);

 private:
  Status execute(Event& event, const OpenFile* file);
  Status execute_on_names(const Event& event);
  Status create(const Event& event);
  Status make_unnamed(const Event& event);
  Status link(const Event& event, const OpenFile* file);
  Status rename(const Event& event, RenameMode mode);
  Result<uint64_t> write_direct(Ino ino, HandleId handle, const Event& event);
  Status write(Event& event, const OpenFile* file);
  Result<uint64_t> copy(const Event& event, Ino ino);
  Status change(const Event& event, const AttributeChange& change);

  FileSystem& fs_;
  Tree tree_;
  EventLog& log_;
  uint64_t& time_;
  const std::function<void()> on_promise_;
  std::map<NodeId, Ino> created_;
  OpenFile unnamed_;  // the last one made
  std::string complaint_;
};

}  // namespace stablefs::sim
