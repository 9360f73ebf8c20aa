// The discrete methods on an ensemble of any network: look at the trajectories at every step, then take the step.
//
// A network offers three templates: Net (its layers and end-to-end map), Step (where the gradient comes from, and the
// step), Peak (the noise of the gradient on every mode, for noise peaks).
#pragma once

#include "measure/accumulate.hpp"
#include "measure/events.hpp"
#include "measure/mode_noise.hpp"
#include "simd/streams.hpp"
#include "step/source.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

template <class T>
using EnsembleOf = Ensemble<T, typename Lane<T>::Word>;

// The trajectories of one element: a block of them in lanes, or a single one.
template <class V, class Noise, template <class> class Net = DeepLinear, template <class, class> class Step = Stepper,
          template <class> class Peak = ModeNoise>
struct Walk {
  using T = Scalar<V>;
  Net<V> net;
  Step<V, Noise> stepper;
  Events<V> events;
  std::optional<Peak<V>> noise;
  std::optional<Accumulator<V>> accumulator;
  const double temperature;
  const bool passages;

  Walk(const Problem& problem, const Method& method, const EnsembleOf<T>& ensemble, const Span& span, int64_t first,
       Arena& own, Arena& arena)
      : net(problem, own, arena),
        stepper(net, method, own, arena),
        events(problem, ensemble, first, own),
        temperature(method.batch > 0 ? method.lr / method.batch : 0.0),
        passages(span.passages) {
    if (span.peaks) noise.emplace(net, arena);
    if (span.accumulation) accumulator.emplace(*span.accumulation, problem, first, own);
  }

  void load(const Span& span) {
    net.load(events.ensemble.weights, events.ensemble.count, events.first);
    if (auto& momentum = stepper.momentum)
      net.load(momentum->velocity, events.ensemble.velocity, events.ensemble.count, events.first);
    events.load(span.peaks);
    if (stepper.data && events.ensemble.order)
      stepper.data->take_order(events.ensemble.order, events.ensemble.count, events.first);
  }
  void store(const Span& span) const {
    if (accumulator) accumulator->store();
    net.store(events.ensemble.weights, events.ensemble.count, events.first);
    if (auto& momentum = stepper.momentum)
      net.store(momentum->velocity, events.ensemble.velocity, events.ensemble.count, events.first);
    events.store(span.peaks);
  }

  void advance(const Span& span, int64_t step) {
    const int64_t per_step = stepper.normals_per_step(net.problem, stepper.method);
    stepper.noise.start_step(Given<T>(span, per_step, events.ensemble.count, events.first, step));
    if (stepper.data) stepper.data->begin(step);
    const double factor = span.factor(step);
    if constexpr (requires { stepper.batch; })
      if (stepper.batch && !noise) return step_by_batch(step, factor);
    look(step, factor);
    accumulate(step);
    stepper.step(factor);
  }

  // P, the events it shows, and E.
  void look(int64_t step, double factor) {
    net.forward(net.weight);
    net.strengths(events.now);
    net.subtract_teacher();
    if (noise) {
      noise->prepare();
      noise->end_to_end();
      for (int a = 0; a < net.modes; ++a) events.noise[a] = T(temperature * factor) * noise->total[a];
    }
    test(step);
  }

  // A small batch needs no P. When passages are looked for, only the strengths are computed; otherwise nothing, and
  // divergence shows in the errors of the batch.
  void step_by_batch(int64_t step, double factor) {
    if (passages) {
      if (net.simple()) {
        net.prefixes(net.weight);
        net.diagonal(net.weight, events.now);
      } else {
        net.forward(net.weight);
        net.strengths(events.now);
      }
      test(step);
      accumulate(step);
    }
    V* error = stepper.draw_batch();
    if (!passages) {
      for (int a = 0; a < net.modes; ++a) events.now[a] = error[a * stepper.batch];
      test(step);
    }
    stepper.take_batch(error, factor);
  }

  void accumulate(int64_t step) {
    if (accumulator && accumulator->due(step)) accumulator->take(events.now, events.alive);
  }

  void test(int64_t step) {
    events.test(step, noise.has_value(), passages);
    if (__builtin_expect(any<T>(events.lost), 0)) net.set_nan(events.lost);
    events.lost = Mask<V>{};
  }
};

// Blocks of trajectories in lanes.
template <class T, template <class> class Net = DeepLinear, template <class, class> class Step = Stepper,
          template <class> class Peak = ModeNoise>
struct InLanes {
  using Walk = SADDLESCOPE_ISA::Walk<Vec<T>, LaneNoise<T>, Net, Step, Peak>;

  static int64_t scratch(const Problem& problem, const Method& method, const Span& span) {
    Arena arena{nullptr};
    Walk(problem, method, EnsembleOf<T>{}, span, 0, arena, arena);
    return arena.used;
  }

  static void advance(const Problem& problem, const Method& method, const EnsembleOf<T>& ensemble, const Span& span,
                      int64_t first, void* scratch) {
    Arena arena{static_cast<char*>(scratch)};
    Walk walk(problem, method, ensemble, span, first, arena, arena);
    Stream<T>& stream = walk.stepper.noise.stream;
    walk.load(span);
    load_words(stream, ensemble.words, ensemble.count, first);
    for (int64_t step = span.from; step < span.until; ++step) walk.advance(span, step);
    walk.look(span.until, span.factor(span.until));  // counted when the next step is taken
    walk.store(span);
    store_words(stream, ensemble.words, ensemble.count, first);
  }
};

}  // namespace saddlescope::SADDLESCOPE_ISA
