// The kernels of one instruction set; compiled once per set with SADDLESCOPE_ISA naming it.
#include "kernels.hpp"

#include "measure/observe.hpp"
#include "mode/euler.hpp"
#include "mode/mode.hpp"
#include "networks/diagonal.hpp"
#include "simd/limits.hpp"
#include "simd/streams.hpp"
#include "step/flow.hpp"
#include "step/walk.hpp"
#include "step/wide.hpp"

#define SADDLESCOPE_JOIN2(a, b) a##b
#define SADDLESCOPE_JOIN(a, b) SADDLESCOPE_JOIN2(a, b)
#define SADDLESCOPE_TEXT2(a) #a
#define SADDLESCOPE_TEXT(a) SADDLESCOPE_TEXT2(a)

namespace saddlescope {

namespace {
using namespace SADDLESCOPE_ISA;

template <class T>
constexpr auto common() {
  return Common<T, typename Lane<T>::Word>{
      Lane<T>::count, &Streams<T>::normals,      &Streams<T>::chi,   &Streams<T>::below, EulerBlock<T, 0>::kMembers,
      &euler<T>,      &Limits<T>::multiply_adds, &Limits<T>::normals};
}

template <class T>
constexpr auto deep_linear() {
  return Discrete<T, typename Lane<T>::Word>{&InLanes<T>::scratch, &InLanes<T>::advance, &OneByOne<T>::scratch,
                                             &OneByOne<T>::advance};
}
template <class T>
constexpr auto diagonal() {
  using Lanes = InLanes<T, Diagonal, DiagonalStepper, DiagonalNoise>;
  return Discrete<T, typename Lane<T>::Word>{&Lanes::scratch, &Lanes::advance, nullptr, nullptr};
}

template <template <class> class Net>
constexpr Flow flow() {
  using Block = FlowBlock<Net>;
  return {&Block::scratch_size, &Block::run, &Block::peek};
}
}  // namespace

const Kernels SADDLESCOPE_JOIN(kernels_, SADDLESCOPE_ISA) = {
    SADDLESCOPE_TEXT(SADDLESCOPE_ISA),
    common<float>(),
    common<double>(),
    {{"deep_linear",
      false,
      &DeepLinear<Vec<double>>::take_shapes,
      &Stepper<Vec<double>, LaneNoise<double>>::normals_per_step,
      deep_linear<float>(),
      deep_linear<double>(),
      flow<DeepLinear>(),
      {ObserverBlock::kCount, &ObserverBlock::observable, &ObserverBlock::scratch_size, &ObserverBlock::width,
       &ObserverBlock::observe}},
     {"diagonal",
      true,
      &Diagonal<Vec<double>>::take_shapes,
      &DiagonalStepper<Vec<double>, LaneNoise<double>>::normals_per_step,
      diagonal<float>(),
      diagonal<double>(),
      flow<Diagonal>(),
      {}}},
    {ModeBlock::kMembers, &ModeBlock::run},
};

}  // namespace saddlescope
