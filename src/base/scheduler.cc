// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/scheduler.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/assert.h"
#include "base/scheduler_core.h"

namespace stablefs {
namespace {

constexpr uint64_t kNsPerEvent = 1000;
constexpr uint64_t kSwitchOneIn[] = {1, 2, 4, 16};
constexpr uint64_t kDisturbOneIn[] = {0, 0, 16, 256};

uint64_t mix(uint64_t hash, uint64_t value) {
  return Prng(hash ^ value).next();
}

const char* to_string(SimThread::State state) {
  switch (state) {
    case SimThread::State::runnable:
      return "could run";
    case SimThread::State::blocked:
      return "is blocked on";
    case SimThread::State::waiting:
      return "waits for a condition under";
    case SimThread::State::finished:
      return "has finished";
  }
  return "?";
}

// A hand-over to a thread on the same processor costs a fraction of one to an idle processor, and
// only one of them ever runs. Inherited by the threads this one starts.
void stay_on_one_processor() {
  const int processor = sched_getcpu();
  if (processor < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

}  // namespace

constinit thread_local SimIdentity sim_identity;

void Baton::give() {
  std::lock_guard<std::mutex> lock(mutex_);
  here_ = true;
  given_.notify_one();
}

void Baton::take() {
  std::unique_lock<std::mutex> lock(mutex_);
  given_.wait(lock, [this] { return here_; });
  here_ = false;
}

SchedulerCore::SchedulerCore(SchedulerOptions options)
    : options_(options),
      prng_(options.seed),
      switch_one_in_(kSwitchOneIn[prng_.below(std::size(kSwitchOneIn))]),
      disturb_one_in_(kDisturbOneIn[prng_.below(std::size(kDisturbOneIn))]) {}

RunOutcome SchedulerCore::run(std::function<void()> main) {
  FS_ASSERT(last_id_ == 0);
  std::thread thread;
  const auto first = start(
      "main",
      [body = std::move(main)] {
        stay_on_one_processor();
        body();
      },
      thread);
  first->baton.give();
  ended_.take();
  if (outcome_ == RunOutcome::completed) {
    thread.join();
  } else {
    thread.detach();  // asleep for ever, like all that are stuck; each keeps the core alive
  }
  if (exception_) std::rethrow_exception(exception_);
  if (outcome_ != RunOutcome::completed && options_.abort_on_failure) {
    std::fprintf(stderr, "%s", report_.c_str());
    std::abort();
  }
  return outcome_;
}

std::shared_ptr<SimThread> SchedulerCore::start(std::string name, std::function<void()> body,
                                                std::thread& thread) {
  auto self = std::make_shared<SimThread>();
  self->id = ++last_id_;
  self->name = std::move(name);
  self->context =
      "thread '" + self->name + "' of the run with scheduler seed " + std::to_string(options_.seed);
  threads_.push_back(self);
  record(SimEvent::start, *self);
  thread = std::thread([core = shared_from_this(), self, body = std::move(body)]() mutable {
    core->thread_main(*self, std::move(body));
  });
  if (sim_identity.core == this) point(SimEvent::start);
  return self;
}

void SchedulerCore::thread_main(SimThread& self, std::function<void()> body) {
  pthread_setname_np(pthread_self(), self.name.substr(0, 15).c_str());
  self.baton.take();
  sim_identity = {this, &self};
  self.held = &held_locks();
  set_assertion_context(self.context.c_str());
  try {
    body();
  } catch (...) {
    if (!exception_) exception_ = std::current_exception();
  }
  // What the body captured is destroyed while this thread still has the baton.
  body = nullptr;
  finish(self);
}

void SchedulerCore::finish(SimThread& self) {
  self.state = SimThread::State::finished;
  record(SimEvent::finish, self);
  unblock(&self);
  std::erase_if(threads_, [&self](const auto& thread) { return thread.get() == &self; });
  sim_identity = {};
  set_assertion_context(nullptr);
  if (threads_.empty()) {
    end_run(RunOutcome::completed);
    return;
  }
  choose_or_fail()->baton.give();
}

void SchedulerCore::record(SimEvent event, const SimThread& thread) {
  now_ns_ += kNsPerEvent;
  ++events_;
  hash_ = mix(hash_, (static_cast<uint64_t>(thread.id) << 8) | static_cast<uint64_t>(event));
}

void SchedulerCore::point(SimEvent event) {
  SimThread& self = *sim_identity.thread;
  record(event, self);
  if (events_ > options_.max_events) fail(RunOutcome::event_limit, "too many events");
  disturb();
  if (prng_.chance(switch_one_in_)) hand_over(self);
}

void SchedulerCore::hand_over(SimThread& self) {
  SimThread* next = choose_or_fail();
  record(SimEvent::wake, *next);
  if (next == &self) return;
  next->baton.give();
  self.baton.take();
}

void SchedulerCore::block(const void* object, const char* name) {
  SimThread& self = *sim_identity.thread;
  self.state = SimThread::State::blocked;
  self.blocked_on = object;
  self.blocked_name = name;
  hand_over(self);
}

void SchedulerCore::unblock(const void* object) {
  for (const auto& thread : threads_) {
    if (thread->state != SimThread::State::blocked || thread->blocked_on != object) continue;
    thread->state = SimThread::State::runnable;
  }
}

bool SchedulerCore::wait(const void* condition, const char* name,
                         std::optional<uint64_t> timeout_ns) {
  SimThread& self = *sim_identity.thread;
  record(SimEvent::wait, self);
  if (events_ > options_.max_events) fail(RunOutcome::event_limit, "too many events");
  self.state = SimThread::State::waiting;
  self.blocked_on = condition;
  self.blocked_name = name;
  self.timed_out = false;
  self.deadline_ns.reset();
  if (timeout_ns) self.deadline_ns = now_ns_ + std::min(*timeout_ns, UINT64_MAX - now_ns_);
  disturb();
  hand_over(self);
  return !self.timed_out;
}

void SchedulerCore::notify(const void* condition, bool all) {
  Threads waiters;
  for (const auto& thread : threads_) {
    if (thread->state == SimThread::State::waiting && thread->blocked_on == condition) {
      waiters.push_back(thread);
    }
  }
  if (!all && waiters.size() > 1) {
    std::swap(waiters.front(), waiters[prng_.below(waiters.size())]);
    waiters.resize(1);
  }
  for (const auto& thread : waiters) wake(*thread, false);
  point(SimEvent::notify);
}

void SchedulerCore::join(SimThread& target) {
  point(SimEvent::join);
  while (target.state != SimThread::State::finished) block(&target, target.name.c_str());
}

void SchedulerCore::wake(SimThread& thread, bool timed_out) {
  thread.state = SimThread::State::runnable;
  thread.timed_out = timed_out;
  if (timed_out) now_ns_ = std::max(now_ns_, *thread.deadline_ns);
}

// Ends what has expired, and now and then, as the seed wants, a wait that has not.
void SchedulerCore::disturb() {
  for (const auto& thread : threads_) {
    if (thread->state == SimThread::State::waiting && thread->deadline_ns &&
        *thread->deadline_ns <= now_ns_) {
      wake(*thread, true);
    }
  }
  if (disturb_one_in_ == 0 || !prng_.chance(disturb_one_in_)) return;
  SimThread& thread = *threads_[prng_.below(threads_.size())];
  if (thread.state == SimThread::State::waiting) wake(thread, thread.deadline_ns.has_value());
}

bool SchedulerCore::expire_earliest() {
  SimThread* earliest = nullptr;
  for (const auto& thread : threads_) {
    if (thread->state != SimThread::State::waiting || !thread->deadline_ns) continue;
    if (earliest == nullptr || *thread->deadline_ns < *earliest->deadline_ns) {
      earliest = thread.get();
    }
  }
  if (earliest == nullptr) return false;
  wake(*earliest, true);
  return true;
}

// One of those that can run; null when none can.
SimThread* SchedulerCore::choose() {
  uint64_t runnable = 0;
  for (const auto& thread : threads_) runnable += thread->state == SimThread::State::runnable;
  if (runnable == 0) return nullptr;
  uint64_t skip = prng_.below(runnable);
  for (const auto& thread : threads_) {
    if (thread->state == SimThread::State::runnable && skip-- == 0) return thread.get();
  }
  return nullptr;
}

SimThread* SchedulerCore::choose_or_fail() {
  if (SimThread* next = choose()) return next;
  if (!expire_earliest()) fail(RunOutcome::deadlock, "deadlock");
  return choose();
}

void SchedulerCore::end_run(RunOutcome outcome) {
  outcome_ = outcome;
  ended_.give();
}

void SchedulerCore::fail(RunOutcome outcome, const char* what) {
  report_ = "stablefs: scheduler seed " + std::to_string(options_.seed) + ": " + what + " after " +
            std::to_string(events_) + " events\n" + describe_threads();
  end_run(outcome);
  Baton never;
  never.take();
  std::abort();
}

std::string SchedulerCore::describe_threads() const {
  std::string text;
  for (const auto& thread : threads_) {
    text += "  thread " + std::to_string(thread->id) + " '" + thread->name + "' " +
            to_string(thread->state);
    const bool stuck =
        thread->state == SimThread::State::blocked || thread->state == SimThread::State::waiting;
    if (stuck) text += std::string(" '") + thread->blocked_name + "'";
    text += "; it holds " + (thread->held ? thread->held->describe() : "nothing") + "\n";
  }
  return text;
}

Scheduler::Scheduler(SchedulerOptions options) : core_(std::make_shared<SchedulerCore>(options)) {}

RunOutcome Scheduler::run(std::function<void()> main) {
  return core_->run(std::move(main));
}
uint64_t Scheduler::event_hash() const {
  return core_->event_hash();
}
uint64_t Scheduler::event_count() const {
  return core_->event_count();
}
uint64_t Scheduler::now_ns() const {
  return core_->now_ns();
}
const std::string& Scheduler::report() const {
  return core_->report();
}
bool Scheduler::active() {
  return sim_identity.core != nullptr;
}

void Scheduler::yield() {
  if (sim_identity.core != nullptr) sim_identity.core->point(SimEvent::yield);
}

Timestamp SimClock::wall_time() {
  const uint64_t now_ns = monotonic_ns();
  return {static_cast<int64_t>(1'700'000'000 + now_ns / kNsPerSecond),
          static_cast<uint32_t>(now_ns % kNsPerSecond)};
}

}  // namespace stablefs
