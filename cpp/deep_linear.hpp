// The discrete methods on an ensemble: look at a block of trajectories at every step, then take the step.
#pragma once

#include "accumulate.hpp"
#include "events.hpp"
#include "mode_noise.hpp"
#include "source.hpp"
#include "streams.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

template <class T, template <class> class Net = Network, template <class, class> class Step = Stepper,
          template <class> class Peak = ModeNoise>
struct DeepLinear {
  using V = Vec<T>;
  using Word = typename Lane<T>::Word;
  using Ens = Ensemble<T, Word>;

  Arena arena;
  Net<V> net;
  Step<V, LaneNoise<T>> stepper;
  Events<T> events;
  std::optional<Peak<V>> noise;
  std::optional<Accumulator<T>> accumulator;
  const double temperature;
  const bool passages;

  DeepLinear(const Problem& problem, const Method& method, const Ens& ensemble, const Span& span, int64_t first,
             void* scratch)
      : arena{static_cast<char*>(scratch)},
        net(problem, arena),
        stepper(net, method, arena),
        events(problem, ensemble, first, arena),
        temperature(method.batch > 0 ? method.lr / method.batch : 0.0),
        passages(span.passages) {
    if (span.peaks) noise.emplace(net, arena);
    if (span.tally) accumulator.emplace(*span.tally, problem, first, arena);
  }

  static int64_t scratch(const Problem& problem, const Method& method, const Span& span) {
    return DeepLinear(problem, method, Ens{}, span, 0, nullptr).arena.used;
  }

  static void advance(const Problem& problem, const Method& method, const Ens& ensemble, const Span& span,
                      int64_t first, void* scratch) {
    DeepLinear(problem, method, ensemble, span, first, scratch).run(span, first);
  }

  void run(const Span& span, int64_t first) {
    const Ens& ensemble = events.ensemble;
    net.load(ensemble.weights, ensemble.count, first);
    load_words<T>(stepper.noise.stream, ensemble.words, ensemble.count, first);
    events.load(span.peaks);
    if (stepper.data && ensemble.order) stepper.data->take_order(ensemble.order, ensemble.count, first);
    const int64_t per_step = normals_per_step(net.problem, stepper.method);
    if (span.normals) {
      stepper.noise.stride = (span.until - span.from) * per_step;
      stepper.noise.last = ensemble.count - 1 - first;
    }
    for (int64_t step = span.from; step < span.until; ++step) {
      const double factor = span.factor(step);
      if (span.normals)
        stepper.noise.given =
            static_cast<const T*>(span.normals) + first * stepper.noise.stride + (step - span.from) * per_step;
      if (stepper.data) stepper.data->begin(step);
      if constexpr (requires { stepper.batch; }) {
        if (stepper.batch && !noise) {
          step_by_batch(step, factor);
          continue;
        }
      }
      look(step, factor);
      accumulate(step);
      stepper.step(factor);
    }
    look(span.until, span.factor(span.until));  // counted when the next step is taken
    if (accumulator) accumulator->store();
    net.store(ensemble.weights, ensemble.count, first);
    store_words<T>(stepper.noise.stream, ensemble.words, ensemble.count, first);
    events.store(span.peaks);
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

  // A small batch needs no P: of that only the strengths are computed, or, when nobody asks for passages, nothing;
  // then the errors of the batch tell of divergence.
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
    if (__builtin_expect(any<T>(events.lost), 0)) net.spoil(events.lost);
    events.lost = IntVec<T>{};
  }
};

}  // namespace saddlescope::SADDLESCOPE_ISA
