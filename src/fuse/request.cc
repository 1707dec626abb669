// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuse/request.h"

namespace stablefs {
namespace {

// libfuse's callbacks carry no pointer of ours per request, only per session.
thread_local Request* t_current = nullptr;

}  // namespace

Request* current_request() {
  return t_current;
}

ServingRequest::ServingRequest(Request& request) {
  FS_ASSERT(t_current == nullptr);
  t_current = &request;
}

ServingRequest::~ServingRequest() {
  t_current = nullptr;
}

}  // namespace stablefs
