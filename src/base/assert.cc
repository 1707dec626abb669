// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/assert.h"

#include <cstdio>
#include <cstdlib>

namespace stablefs {
namespace {

constinit thread_local const char* assertion_context = nullptr;

}  // namespace

void set_assertion_context(const char* text) {
  assertion_context = text;
}

void assertion_failed(const char* expression, const char* file, int line, const char* function) {
  std::fprintf(stderr, "stablefs: assertion failed: %s (%s:%d, %s)\n", expression, file, line,
               function);
  if (assertion_context != nullptr) std::fprintf(stderr, "stablefs: in %s\n", assertion_context);
  std::fflush(stderr);
  std::abort();
}

}  // namespace stablefs
