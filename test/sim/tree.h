// SPDX-License-Identifier: GPL-2.0-or-later
// A tree of names in memory, as the model has it or as it was found on a mounted filesystem, and
// the events that change it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace stablefs::sim {

using NodeId = uint64_t;

enum class NodeType : uint8_t { file, directory, symlink, whiteout };

struct Node {
  NodeType type = NodeType::file;
  uint32_t mode = 0;    // permission bits
  std::string target;   // of a symlink
  std::string content;  // of a file
  std::map<std::string, std::string> xattrs{};
};

enum class EventKind : uint8_t {
  create,
  create_unnamed,  // and open
  make_directory,
  symlink,
  link,  // also of an open file that has no name
  unlink,
  remove_directory,
  rename,
  exchange,
  set_mode,
  set_xattr,
  remove_xattr,
  truncate,
  write,
  zero,      // or punch: a range that is zero from now on
  allocate,  // a range that has its space
  fsync,     // of one file
  syncfs,    // also the end of an unmount
  nothing    // changes nothing: failed, or only read
};
const char* to_string(EventKind kind);

inline constexpr uint64_t kNever = ~0ull;

// One operation of one simulated thread. Times are those of a counter that moves with every call
// and every reply.
struct Event {
  EventKind kind = EventKind::nothing;
  uint64_t invoked = kNever;
  uint64_t replied = kNever;
  std::string path{}, new_path{};
  NodeId node = 0;             // the one created, written, truncated, moved, ...
  uint64_t offset = 0;         // write, zero, allocate
  uint64_t size = 0;           // truncate; zero, allocate: the length
  uint32_t mode = 0;           // set_mode and what creates
  std::string bytes{};         // write: the data; symlink: the target; set_xattr: the value
  std::string xattr{};         // its name
  std::string copied_from{};   // write: by a copy between files, from this path, ...
  uint64_t copied_offset = 0;  // ... where the bytes are there
  bool synchronous = false;    // write: as if an fsync followed
  bool data_only = false;      // fsync
  bool foreign = false;        // fsync: of another thread's file
  bool times_follow = false;   // write: the kernel writes back
  bool direct = false;         // write: past the cache
  bool keep_size = false;      // zero, allocate
  bool punches = false;        // zero: the space is given back
  bool opens = false;          // create
  bool replaces = false;       // rename: over an existing file
  NodeId whiteout = 0;         // rename: takes the old name; 0: none does

  // A metadata operation of the persistence contract: part of the history that is cut at one point.
  bool is_metadata() const;
  // Answered, it has made something durable.
  bool is_promise() const {
    return kind == EventKind::fsync || kind == EventKind::syncfs || synchronous;
  }
  std::string text() const;
};

struct Tree {
  std::map<std::string, NodeId> names;  // full paths; "/" itself is not among them
  std::map<NodeId, Node> nodes;         // also those without a name

  void apply(const Event& event);
  bool is_directory(const std::string& path) const;  // also of "/"
  bool empty_directory(const std::string& path) const;
  bool has_name(NodeId node) const;
  // The names whose first own component (below the shared directories) begins with this prefix.
  Tree part(const std::string& owner_prefix) const;
  // Everything of the names: types, modes, targets, extended attributes, which are links to one
  // file. No contents.
  std::string names_text() const;
  std::string contents_text() const;  // and a digest of each file's contents
};

// Path of the directory a path is in, with "/" at its end, and the last component.
std::string parent_of(const std::string& path);
std::string last_component(const std::string& path);
bool is_below(const std::string& path, const std::string& directory);

// Directories that all threads use; each thread's names begin with its own prefix there.
inline constexpr const char* kSharedDirectories[] = {"/", "/a/", "/b/"};
std::string owner_prefix(uint64_t thread);  // "t0_"

}  // namespace stablefs::sim
