// SPDX-License-Identifier: GPL-2.0-or-later
// One run of a workload over a device that fails by a plan, with a model of what was acknowledged,
// and the judgement of what a mount on the healthy device finds afterwards.
//
// The model knows every state of the names (one for each operation answered) and, of every file,
// the versions of its content since the last time it was acknowledged as durable.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "device/faulty_device.h"
#include "device/memory_device.h"
#include "fs/file_system.h"

namespace stablefs {

struct FaultSetup {
  const MemoryImage& formatted;  // what is on the device before
  ErrorPolicy policy;
  uint64_t seed;
  bool asynchronous = false;
};

class FaultRun {
 public:
  FaultRun(const FaultSetup& setup, Clock& clock, Logger& logger);
  ~FaultRun();

  // Healthy until set_plan; false (and said why) when it cannot be mounted.
  Status mount();
  FaultyDevice& device() { return faulty_; }
  FileSystem& fs() { return *fs_; }

  // Leaves room for about so many data blocks.
  void fill_up_to(uint64_t free_blocks);
  void run_workload();
  void sync_all();
  void stop();  // at once, as a crash would
  // What must hold once an error has latched; then unmounts.
  void finish();

  // After the run: remounts what the device holds (everything, or what survives a power failure)
  // and compares. All that is wrong, "" when nothing is.
  const std::string& wrong() const { return wrong_; }
  void judge(const MemoryImage& image);
  // As judge, for one of which nothing is known but that it must mount and check clean.
  void expect_healthy_mount(const MemoryImage& image);
  void complain(const std::string& what) { wrong_ += what + "\n"; }
  MemoryImage image() const { return memory_.image(); }
  MemoryImage durable_image() const { return memory_.durable_image(); }

  HealthState state() const { return state_; }
  uint64_t acknowledged() const { return acknowledged_; }
  uint64_t refused() const { return refused_; }
  bool closed_well() const { return closed_well_; }

 private:
  struct File {
    Ino ino;
    std::vector<std::string> versions;  // the first: acknowledged as durable
    bool uncertain = false;             // a change of it failed half way
    bool opaque = false;                // contents are not compared
    const std::string& now() const { return versions.back(); }
  };
  using Names = std::map<std::string, int>;  // path -> file; -1: directory

  bool succeeded(const Status& status);
  void name_added(const std::string& path, int file);
  void note_names(const Names& names) { history_.push_back(names); }
  Names names() const { return history_.back(); }
  void synced_names() { floor_ = history_.size() - 1; }

  Ino parent_of(const std::string& path) const;
  void create(const std::string& path);
  void make_directory(const std::string& path);
  void write(const std::string& path, uint64_t offset, const std::string& text);
  void truncate(const std::string& path, uint64_t size);
  void fsync(const std::string& path);
  void rename(const std::string& from, const std::string& to);
  void unlink(const std::string& path);
  void checkpoint();
  void read(const std::string& path);
  void refuse_after_error();

  using Tree = std::map<std::string, std::string>;  // path -> content; directories: "/"
  bool mount_and_read(const MemoryImage& image, Tree& tree);
  static Status read_tree(FileSystem& fs, Ino directory, const std::string& prefix, Tree& tree);
  std::string compare(const Names& names, const Tree& tree) const;
  static bool content_possible(const File& file, const std::string& found);

  FileSystemOptions options_;
  Clock& clock_;
  Logger& logger_;
  MemoryDevice memory_;
  FaultyDevice faulty_;
  std::unique_ptr<FileSystem> fs_;
  std::map<std::string, Ino> directories_;
  std::vector<File> files_;
  std::map<int, HandleId> handles_;
  std::vector<Names> history_;
  size_t floor_ = 0;  // no older state of the names may be found
  std::string wrong_;
  HealthState state_ = HealthState::healthy;
  uint64_t acknowledged_ = 0, refused_ = 0;
  bool closed_well_ = false;
};

}  // namespace stablefs
