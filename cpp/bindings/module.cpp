// The Python module: one file a family converts arguments, checks the shapes of arrays and releases the interpreter's
// lock; ensemble.hpp and mode.hpp define what is computed and which numbers are allowed.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <thread>

#include "bindings/arrays.hpp"

namespace saddlescope {

Unlocked::Unlocked() : state_(PyEval_SaveThread()) {}

// Where the interpreter ends meanwhile, CPython before 3.14 unwinds a thread that wants to return to it, which frames
// of C++ do not allow: the thread waits for the end of the process instead.
Unlocked::~Unlocked() {
  try {
    PyEval_RestoreThread(state_);
  } catch (...) {
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
}

}  // namespace saddlescope

NB_MODULE(_kernel, m) {
  using namespace saddlescope;
  nb::set_leak_warnings(false);  // a daemon thread holds its kernel to the end of the process
  m.doc() = "Compiled kernels; saddlescope.engines.native is their interface.";
  m.attr("jacobi_modes") = kJacobiModes;
  m.attr("max_depth") = kMaxDepth;
  m.attr("panel") = kPanel;
  m.attr("correlator_row") = kCorrelatorRow;
  m.attr("thresholds") = nb::make_tuple(kThreshold[0], kThreshold[1]);
  m.def("instruction_sets", &instruction_sets);
  bind_networks(m);
  bind_modes(m);
  bind_streams(m);
}
