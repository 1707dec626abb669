// SPDX-License-Identifier: GPL-2.0-or-later
#include "check/reporter.h"

#include <fmt/format.h>

namespace stablefs {
namespace {

struct ProblemInfo {
  const char* name;
  Severity severity;
  const char* text;
};

constexpr ProblemInfo kProblems[] = {
#define STABLEFS_PROBLEM(name, severity, text) {#name, Severity::severity, text},
#include "check/problems.def"
#undef STABLEFS_PROBLEM
};

const ProblemInfo& info(ProblemId id) {
  return kProblems[static_cast<size_t>(id)];
}

}  // namespace

const char* problem_name(ProblemId id) {
  return info(id).name;
}
const char* problem_text(ProblemId id) {
  return info(id).text;
}
Severity problem_severity(ProblemId id) {
  return info(id).severity;
}

std::string Problem::text() const {
  std::string line = fmt::format("{}: {}: {}", problem_name(id), where, problem_text(id));
  if (!what.empty()) line += ": " + what;
  return line;
}

void Reporter::add(ProblemId id, std::string where, std::string what) {
  ++(problem_severity(id) == Severity::error ? counts_.problems : counts_.degraded);
  if (options_.report) options_.report({id, std::move(where), std::move(what)});
}

std::string range_to_text(BlockRange range) {
  return range.length_blocks == 1
             ? fmt::format("block {}", range.start.value)
             : fmt::format("blocks {}+{}", range.start.value, range.length_blocks);
}

}  // namespace stablefs
