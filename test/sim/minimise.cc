// SPDX-License-Identifier: GPL-2.0-or-later
#include "sim/minimise.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <vector>

namespace stablefs::sim {
namespace {

constexpr const char* kSeed = "STABLEFS_SIM_SEED";
constexpr const char* kKeep = "STABLEFS_SIM_KEEP";
constexpr const char* kDense = "STABLEFS_SIM_DENSE";

class Minimiser {
 public:
  Minimiser(const Environment& environment, uint64_t runs_max)
      : environment_(environment), runs_max_(runs_max) {}

  Minimised run(const RunOptions& failing) {
    best_.options = failing;
    best_.report = run_seed(environment_, failing);
    ++best_.runs;
    // Leaving operations out moves the moments at which pictures are taken: take all.
    RunOptions dense = failing;
    dense.dense = true;
    (void)fails(dense);
    std::vector<uint64_t> kept(best_.report.choices);
    for (uint64_t i = 0; i < kept.size(); ++i) kept[i] = i;
    for (size_t piece = std::max<size_t>(kept.size() / 2, 1); piece > 0;) {
      const size_t before = kept.size();
      leave_out_pieces(kept, piece);
      if (piece == 1 && kept.size() == before) break;
      piece = std::min(std::max<size_t>(piece / 2, 1), std::max<size_t>(kept.size(), 1));
      if (best_.runs >= runs_max_) break;
    }
    return std::move(best_);
  }

 private:
  bool fails(const RunOptions& options) {
    ++best_.runs;
    RunReport report = run_seed(environment_, options);
    if (report.failure.empty()) return false;
    best_.options = options;
    best_.report = std::move(report);
    return true;
  }

  void leave_out_pieces(std::vector<uint64_t>& kept, size_t piece) {
    for (size_t at = 0; at < kept.size() && best_.runs < runs_max_;) {
      std::vector<uint64_t> fewer = kept;
      const size_t end = std::min(at + piece, fewer.size());
      fewer.erase(fewer.begin() + static_cast<ptrdiff_t>(at),
                  fewer.begin() + static_cast<ptrdiff_t>(end));
      RunOptions options = best_.options;
      options.keep.emplace(fewer.begin(), fewer.end());
      if (fails(options)) {
        kept = std::move(fewer);
      } else {
        at += piece;
      }
    }
  }

  const Environment& environment_;
  const uint64_t runs_max_;
  Minimised best_;
};

std::string own_path() {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  return length > 0 ? std::string(path, static_cast<size_t>(length)) : "sim_tests";
}

}  // namespace

Minimised minimise(const Environment& environment, const RunOptions& failing, uint64_t runs_max) {
  return Minimiser(environment, runs_max).run(failing);
}

std::string replay_command(const RunOptions& options) {
  const std::string dense = options.dense ? fmt::format("{}=1 ", kDense) : "";
  const std::string keep =
      options.keep ? fmt::format("{}={} ", kKeep, fmt::join(*options.keep, ",")) : "";
  return fmt::format("{}={} {}{}{} '[replay]'", kSeed, options.seed, dense, keep, own_path());
}

std::optional<RunOptions> replay_options() {
  const char* seed = std::getenv(kSeed);
  if (seed == nullptr) return std::nullopt;
  RunOptions options;
  options.seed = std::strtoull(seed, nullptr, 10);
  options.dense = std::getenv(kDense) != nullptr;
  if (const char* keep = std::getenv(kKeep)) {
    options.keep.emplace();
    std::istringstream numbers(keep);
    for (std::string number; std::getline(numbers, number, ',');) {
      options.keep->insert(std::strtoull(number.c_str(), nullptr, 10));
    }
  }
  return options;
}

}  // namespace stablefs::sim
