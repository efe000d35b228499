// Which instruction sets this build has and this CPU runs. No kernels, no Python.
#pragma once

#include "kernels/table.hpp"

namespace fastnn {

struct InstructionSet {
    const char* name;
    const Table<float>* float_table;
    const Table<double>* double_table;
    int int8_ways;  // of the table's, how many this CPU runs
};

// Those that are compiled in and that CPU and operating system support, best last.
struct InstructionSets {
    InstructionSet items[4];
    int count = 0;
    int find(const char* name) const;  // -1: not among them
};
const InstructionSets& instruction_sets();

// The best, or the one the environment variable FASTNN_ISA names. Throws std::runtime_error when it names
// none of instruction_sets().
int default_instruction_set();

}  // namespace fastnn
