// SPDX-License-Identifier: GPL-2.0-or-later
#include "sim/run.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>

#include "base/scheduler.h"
#include "base/sync.h"
#include "device/verifying_device.h"
#include "fs/file_system_impl.h"
#include "sim/lazy_device.h"
#include "sim/observe.h"
#include "sim/watch_device.h"
#include "sim/workload.h"

namespace stablefs::sim {
namespace {

enum class Ending : uint8_t { unmount, kill, power_failure };

// What the seed decides once for a run.
struct Setup {
  uint64_t threads;
  uint64_t phases;
  uint64_t steps;
  Profile profile;
  bool tight;
  bool asynchronous;
  uint64_t put_off_one_in;  // writes
  uint64_t linger_max;      // scheduling points that the device lets pass between requests
  FileSystemOptions options;

  explicit Setup(Prng& prng) {
    constexpr uint64_t kDelays[] = {0, kNsPerMs, 20 * kNsPerMs, 3600 * kNsPerSecond};
    constexpr uint64_t kIntervals[] = {kNsPerMs, 50 * kNsPerMs, 3600 * kNsPerSecond};
    threads = 1 + prng.below(3);
    phases = 1 + prng.below(3);
    steps = (10 + prng.below(60)) / threads;
    profile = static_cast<Profile>(prng.below(3));
    tight = prng.chance(2);
    asynchronous = !prng.chance(4);
    put_off_one_in = prng.chance(2) ? 0 : 1 + prng.below(3);
    linger_max = asynchronous && !prng.chance(3) ? 1 + prng.below(40) : 0;
    options.writeback_delay_ns = kDelays[prng.below(std::size(kDelays))];
    options.commit_interval_ns = kIntervals[prng.below(std::size(kIntervals))];
    options.cache = prng.chance(3) ? CacheMode::daemon : CacheMode::kernel;
    options.clean_limit_bytes = 8 * kBlockSize;
    // Not drawn: runs of known seeds stay what they were, but for this.
    constexpr StablePolicy kPolicies[] = {StablePolicy::automatic, StablePolicy::copy,
                                          StablePolicy::wait};
    options.stable = kPolicies[(threads + phases + steps) % std::size(kPolicies)];
    options.discard = (threads + steps) % 2 == 0;
    options.discard_delay_ns = 3 * kNsPerMs;
    options.atime = prng.chance(3) ? AtimePolicy::strictatime : AtimePolicy::noatime;
  }
};

class Simulation {
 public:
  Simulation(const Environment& environment, const RunOptions& options, Scheduler& scheduler)
      : environment_(environment),
        options_(options),
        clock_(scheduler),
        prng_(mix(options.seed, 1)),
        setup_(prng_),
        recovery_(clock_, options.seed, true) {
    setup_.options.clock = &clock_;
    setup_.options.logger = &logger_;
  }

  void run();
  RunReport take_report() {
    report_.states = recovery_.states();
    report_.nested = recovery_.nested();
    return std::move(report_);
  }

 private:
  void fail(const std::string& text) {
    if (report_.failure.empty()) report_.failure = text;
  }
  bool failed() const { return !report_.failure.empty(); }
  MemoryDeviceOptions device_options() {
    return {.asynchronous = setup_.asynchronous, .seed = prng_.next()};
  }
  std::vector<Choice> choices();
  void run_phase();
  Ending work(FileSystem& fs, Camera& camera);
  void act(FileSystem& fs, Camera& camera);
  void judge(const std::vector<Shot>& shots);
  const Observation& observation(const MemoryImage& image);
  std::optional<std::string> judge(const Shot& shot, const Observation& found) const;
  void go_on(Ending ending, std::vector<Shot>& shots);

  const Environment& environment_;
  const RunOptions options_;
  SimClock clock_;
  NullLogger logger_;
  Prng prng_;
  Setup setup_;
  Recovery recovery_;
  RunReport report_;

  std::unique_ptr<MemoryDevice> device_;
  Tree base_;
  History history_;
  // The one before, while what its killed daemon left may not be durable yet.
  std::optional<std::pair<History, Cut>> before_kill_;
  uint64_t time_ = 0;
  std::map<uint64_t, Observation> observations_;  // by digest
};

void Simulation::run() {
  device_ = std::make_unique<MemoryDevice>(environment_.image(setup_.tight), device_options());
  base_ = observation(environment_.image(setup_.tight)).tree;
  for (uint64_t phase = 0; phase < setup_.phases && !failed(); ++phase) run_phase();
  device_.reset();
}

std::vector<Choice> Simulation::choices() {
  Prng prng(prng_.next());
  std::vector<Choice> drawn = draw_choices(prng, setup_.profile, setup_.steps);
  std::vector<Choice> kept;
  for (const Choice& choice : drawn) {
    const uint64_t number = report_.choices++;
    if (!options_.keep || options_.keep->contains(number)) kept.push_back(choice);
  }
  return kept;
}

void Simulation::run_phase() {
  time_ = 0;
  history_ = History(base_, setup_.threads);
  Camera camera(*device_, time_,
                {.seed = prng_.next(),
                 .one_in = options_.dense ? 1u : 6u,
                 .shots_max = options_.dense ? 400u : 18u,
                 .every_policy = options_.dense});
  Ending ending = Ending::kill;
  {
    LazyDevice lazy(*device_, clock_, prng_.next(), setup_.put_off_one_in);
    WatchDevice watch(lazy);
    watch.on_event = [&camera](const DeviceRequest&, bool) { camera.on_event(); };
    Prng lingering(prng_.next());
    if (setup_.linger_max != 0) {
      watch.linger = [this, &lingering] {
        for (uint64_t left = lingering.below(setup_.linger_max); left > 0; --left) {
          Scheduler::yield();
        }
      };
    }
    VerifyingDevice verifying(watch);
    auto opened = FileSystem::open(verifying, setup_.options);
    if (!opened.ok()) return fail("the mount failed: " + opened.error().message());
    ++time_;
    ending = work(**opened, camera);
    opened->reset();
    if (verifying.verifying_counters().mismatches != 0) fail("a buffer changed under a write");
    report_.digest = mix(report_.digest, watch.digest());
  }
  if (!failed()) judge(camera.shots());
  if (!failed()) go_on(ending, camera.shots());
}

Ending Simulation::work(FileSystem& fs, Camera& camera) {
  act(fs, camera);
  const auto ending = static_cast<Ending>(prng_.below(3));
  if (ending != Ending::unmount) {
    fs.stop();
    return ending;
  }
  Event event{.kind = EventKind::syncfs, .invoked = ++time_};
  history_.logs()[0].push_back(event);
  const Status closed = fs.close();
  if (!closed.ok()) fail("unmount: " + closed.error().message());
  history_.logs()[0].back().replied = ++time_;
  camera.on_promise();
  return ending;
}

void Simulation::act(FileSystem& fs, Camera& camera) {
  ActorLimits limits;
  limits.synchronous_handles = setup_.options.cache == CacheMode::daemon;
  if (setup_.tight) limits.file_bytes_max = 10 * kBlockSize;
  std::deque<Actor> actors;
  std::vector<Thread> threads;
  for (uint64_t i = 0; i < setup_.threads; ++i) {
    actors.emplace_back(fs, i, history_.base(i), history_.logs()[i], time_, camera, limits);
  }
  for (Actor& actor : actors) actor.meet(actors);
  for (Actor& actor : actors) {
    threads.emplace_back("actor", [&actor, list = choices()] {
      for (const Choice& choice : list) actor.step(choice);
      actor.close_all();
    });
  }
  for (Thread& thread : threads) thread.join();
  for (const Actor& actor : actors) {
    if (!actor.complaint().empty()) fail(actor.complaint());
  }
  for (const EventLog& log : history_.logs()) report_.operations += log.size();
}

const Observation& Simulation::observation(const MemoryImage& image) {
  const uint64_t digest = digest_of(image);
  auto found = observations_.find(digest);
  if (found == observations_.end()) {
    found = observations_.emplace(digest, recovery_.recover(image)).first;
  }
  return found->second;
}

std::optional<std::string> Simulation::judge(const Shot& shot, const Observation& found) const {
  if (!found.wrong.empty()) return found.wrong;
  uint64_t owned = 0;
  for (uint64_t i = 0; i < setup_.threads; ++i) {
    owned += found.tree.part(owner_prefix(i)).names.size();
  }
  for (const char* shared : {"/a", "/b", "/filler"}) owned += found.tree.names.contains(shared);
  if (owned != found.tree.names.size()) return "names nobody made:\n" + found.tree.names_text();
  const bool mounting = shot.cut.after <= 1;
  if (mounting && before_kill_) return before_kill_->first.judge(before_kill_->second, found.tree);
  return history_.judge(shot.cut, found.tree);
}

void Simulation::judge(const std::vector<Shot>& shots) {
  for (const Shot& shot : shots) {
    ++report_.pictures;
    const auto wrong = judge(shot, observation(shot.image));
    if (!wrong) continue;
    return fail(fmt::format("{}\n{}\n{}", shot.text(), *wrong, history_.text()));
  }
}

void Simulation::go_on(Ending ending, std::vector<Shot>& shots) {
  before_kill_.reset();
  if (ending == Ending::power_failure && !shots.empty()) {
    const Shot& shot = shots[prng_.below(shots.size())];
    base_ = observation(shot.image).tree;
    device_ = std::make_unique<MemoryDevice>(shot.image, device_options());
    return;
  }
  // The device goes on with what it has in its cache.
  const Shot last{device_->image(), {time_ + 1, time_ + 1}, 0, CrashPolicy::keep_all};
  judge({last});
  base_ = observation(last.image).tree;
  before_kill_.emplace(history_, last.cut);
}

}  // namespace

RunReport run_seed(const Environment& environment, const RunOptions& options) {
  Scheduler scheduler(options.seed);
  RunReport report;
  scheduler.run([&] {
    Simulation simulation(environment, options, scheduler);
    simulation.run();
    report = simulation.take_report();
  });
  report.digest = mix(report.digest, scheduler.event_hash());
  return report;
}

}  // namespace stablefs::sim
