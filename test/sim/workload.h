// SPDX-License-Identifier: GPL-2.0-or-later
// What the simulated threads do: a list of choices drawn from the seed, which an Actor makes
// operations of as its files stand when their turn comes. Any choice may be left out.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "base/prng.h"
#include "fs/file_system.h"
#include "sim/camera.h"
#include "sim/operator.h"
#include "sim/oracle.h"
#include "sim/tree.h"

namespace stablefs::sim {

// A new kind (direct writes, ...) goes into this list, with its weights, into
// Actor::step, and, when the contract says something new about it, into Tree::apply and FileModel.
// Weights: of everything, mostly of data, mostly of names.
#define STABLEFS_SIM_CHOICES(X) \
  X(create, 8, 2, 10)           \
  X(create_unnamed, 3, 2, 4)    \
  X(link_unnamed, 3, 2, 4)      \
  X(make_directory, 4, 0, 6)    \
  X(symlink, 3, 0, 4)           \
  X(link, 4, 1, 8)              \
  X(unlink, 6, 1, 8)            \
  X(remove_directory, 3, 0, 5)  \
  X(rename, 7, 1, 10)           \
  X(rename_over, 6, 2, 8)       \
  X(exchange, 2, 0, 4)          \
  X(set_mode, 2, 1, 3)          \
  X(set_xattr, 3, 0, 8)         \
  X(remove_xattr, 1, 0, 3)      \
  X(truncate_down, 5, 12, 1)    \
  X(truncate_up, 3, 4, 1)       \
  X(write_odd, 14, 14, 2)       \
  X(append, 8, 14, 2)           \
  X(write_pages, 8, 8, 1)       \
  X(write_large, 1, 1, 0)       \
  X(write_open, 4, 2, 1)        \
  X(punch, 4, 8, 1)             \
  X(zero, 3, 5, 1)              \
  X(zero_inside, 2, 3, 0)       \
  X(allocate, 3, 6, 1)          \
  X(allocate_more, 3, 4, 1)     \
  X(copy, 5, 10, 1)             \
  X(fsync, 8, 3, 5)             \
  X(fsync_other, 3, 4, 3)       \
  X(fsync_directory, 2, 5, 4)   \
  X(syncfs, 2, 3, 2)            \
  X(open, 3, 1, 2)              \
  X(close, 3, 1, 2)             \
  X(read, 4, 4, 1)              \
  X(pause, 4, 3, 4)

enum class ChoiceKind : uint8_t {
#define STABLEFS_SIM_CHOICE(name, all, data, names) name,
  STABLEFS_SIM_CHOICES(STABLEFS_SIM_CHOICE)
#undef STABLEFS_SIM_CHOICE
};

enum class Profile : uint8_t { all, data, names };

struct Choice {
  ChoiceKind kind;
  uint64_t seed;  // of everything else that is chosen
};
std::vector<Choice> draw_choices(Prng& prng, Profile profile, uint64_t count);

struct ActorLimits {
  uint64_t file_bytes_max = 40 * kBlockSize;
  bool synchronous_handles = false;
};

class Actor {
 public:
  // `time` is shared by all actors of a run, `log` is this one's own.
  Actor(FileSystem& fs, uint64_t thread, const Tree& tree, EventLog& log, uint64_t& time,
        Camera& camera, const ActorLimits& limits);

  // All actors of the run, this one too.
  void meet(const std::deque<Actor>& everybody) { everybody_ = &everybody; }
  void step(const Choice& choice);
  void close_all();
  const std::string& complaint() const { return operator_.complaint(); }

 private:
  const Tree& tree() const { return operator_.tree(); }
  std::string any_directory(Prng& prng) const;  // with "/" at its end
  std::string any_name(Prng& prng) const;
  std::optional<std::string> any(Prng& prng, NodeType type) const;
  std::optional<std::string> any(Prng& prng) const;
  NodeId new_node() { return (thread_ + 1) * (uint64_t{1} << 32) + ++created_; }

  void create(Prng& prng, EventKind kind);
  void create_unnamed(Prng& prng);
  void link_unnamed(Prng& prng);
  void link(Prng& prng);
  void unlink(Prng& prng);
  void remove_directory(Prng& prng);
  void rename(Prng& prng, bool over_a_file);
  void exchange(Prng& prng);
  void set_mode(Prng& prng);
  void set_xattr(Prng& prng);
  void remove_xattr(Prng& prng);
  void truncate(Prng& prng, bool up);
  void write_path(Prng& prng, ChoiceKind kind);
  void write_open(Prng& prng);
  // A range of a file, about its end as likely as not.
  void change_range(Prng& prng, Event event);
  void copy(Prng& prng);
  void write(Event event, uint64_t length, Prng& prng, const OpenFile* file);
  void fsync(Prng& prng);
  void fsync_other(Prng& prng);
  void open(Prng& prng);
  void close(Prng& prng);
  void read(Prng& prng);

  const uint64_t thread_;
  const std::string prefix_;
  const ActorLimits limits_;
  Operator operator_;
  const std::deque<Actor>* everybody_ = nullptr;
  std::vector<OpenFile> open_;
  uint64_t created_ = 0;
};

// Never a zero byte: holes stand out.
std::string random_bytes(Prng& prng, uint64_t length);

}  // namespace stablefs::sim
