// SPDX-License-Identifier: GPL-2.0-or-later
// Collects the findings of all passes.
#pragma once

#include <string>
#include <utility>

#include "base/ids.h"
#include "check/check.h"

namespace stablefs {

class Reporter {
 public:
  Reporter(const CheckOptions& options, CheckReport& counts) : options_(options), counts_(counts) {}

  void add(ProblemId id, std::string where, std::string what = "");
  void progress(const char* pass, uint64_t done, uint64_t total) {
    if (options_.progress) options_.progress(pass, done, total);
  }
  CheckReport& counts() { return counts_; }
  const CheckOptions& options() const { return options_; }

 private:
  const CheckOptions& options_;
  CheckReport& counts_;
};

std::string range_to_text(BlockRange range);  // "blocks 100+3"

}  // namespace stablefs
