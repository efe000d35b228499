// What an operation declares of itself and what its functions take: plain data. No code, no SIMD, no Python.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fastnn {

// The declaration of an operation, word for word that of fastnn/ops; ops/spec.py has the grammar. The two are compared
// when the extension is imported.
struct Spec {
    const char* name;
    const char* params = "";
    const char* statistics = "";
    const char* settings = "";
    const char* scratch = "";
    const char* phase = "rows";
    const char* forward;
    const char* backward = "";
    const char* predict = "";
    const char* x = "NO";
    const char* a = "NO";
};

struct Range {
    size_t begin, end;
    size_t size() const { return end - begin; }
};

struct RandomKey {
    uint64_t seed, step;
    uint32_t op;
};
struct Moment {  // of a training: what its random bits depend on, beside the operation
    uint64_t seed, step;
};

struct Activated {
    int code;  // an index into the table's activations
    double alpha;
};

// What rows of a data set may be.
enum Stored { kFloat32, kFloat64, kUint8, kInt8, kInt16, kUint16, kInt32, kUint32, kInt64 };

// Rows of a data set as they are stored: not copied, cast when a batch is gathered. Dense, `stride` bytes apart, the
// elements of a row contiguous; or sparse (CSR): those of row r are entries starts[r] .. starts[r + 1] - 1 of data, in
// these columns, and the others are 0.
struct Rows {
    const void* data = nullptr;
    Stored stored = kFloat32;
    ptrdiff_t stride = 0;
    const void* starts = nullptr;  // null: dense
    const void* columns = nullptr;
    bool wide = false;              // starts and columns are int64, else int32
    size_t entries = 0, count = 0;  // of data and of rows, where it is sparse

    int64_t start(int64_t row) const { return number(starts, row); }
    int64_t column(int64_t entry) const { return number(columns, entry); }

  private:
    int64_t number(const void* numbers, int64_t i) const {
        return wide ? static_cast<const int64_t*>(numbers)[i] : static_cast<const int32_t*>(numbers)[i];
    }
};
constexpr size_t kFine = static_cast<size_t>(-1);  // what a source returns that could take every value

// A matrix (K, N) of whole numbers from -127 to 127 in the place of floats: column o is weights times scale[o].
struct WholeNumbers {
    size_t K, N;
    const int8_t* weights;
    const float *scale, *bias;
};

// The same, packed for one way to multiply with it, and how: see kernels/serve_int8.hpp.
template <class T>
struct Whole {
    void (*multiply)(const Whole& of, size_t M, const T* a,
                     T* c);  // c (M, N) = a (M, K) weights scale + bias
    size_t K, N;
    const int8_t* panels;
    const int32_t* shifts;
    const T *scale, *bias;
};
template <class T>
struct Int8Way {
    const char* name;
    size_t (*bytes)(size_t K, size_t N);
    Whole<T> (*pack)(const WholeNumbers& from, void* to);  // to: 64-byte aligned
};

constexpr int kMostTensors = 8, kMostScratch = 8, kMostPacked = 6, kMostSettings = 16;

// The arguments of an operation's functions, for a whole batch. Its tensors, settings and scratch are in the Spec's order;
// a row is P positions of I channels that come in, and of O that go out.
template <class T>
struct Call {
    size_t B = 0, P = 1, I = 0, O = 0;
    size_t F = 0;  // all values of a row that comes in
    const T* x = nullptr;
    T* a = nullptr;
    T* z = nullptr;  // is a where the derivative of the activation is written in terms of a
    T* da = nullptr;
    T* dx = nullptr;  // null: nothing below learns
    // Of these the ones that the Spec declares, and no others, are read and so written: clearing all of them took 12 ns
    // of a call from Python of 92.
    const T* params[kMostTensors];
    T* dparams[kMostTensors];
    void* statistics[kMostTensors];
    void* scratch[kMostScratch];
    double settings[kMostSettings];
    T* packed[kMostPacked] = {};      // native only: see Operation::packed; null where not wanted
    const Whole<T>* whole = nullptr;  // predicting only: the matrix in whole numbers, which is read instead
    bool streaming = false;           // what is packed leaves the caches before it is read
    Activated activation{0, 0}, below{0, 0};
    const T* saved = nullptr;   // what the derivative of `below` is written in
    const T* other = nullptr;   // of a skip: the x of the operation it is paired with
    const T* dother = nullptr;  // and the da
    const Rows* sparse =
        nullptr;  // the data whose rows `order` are the batch, x holding none: see Operation::sparse
    const int64_t* order = nullptr;
    const Moment* moment = nullptr;
    uint32_t op = 0;

    RandomKey key() const { return {moment->seed, moment->step, op}; }
};

// Rows that go in and out: `from` positions of I channels, `to` of O. The settings are as they were given: any finite numbers.
struct Passage {
    size_t from, I, to, O;
    const double* settings;
};

// What a plan wants of an operation, which decides what it packs.
struct Use {
    bool training;
    bool learns;           // all its matrices are trained
    bool wants_dx;         // something below learns
    size_t rows;           // of the largest batch
    bool sparse = false;   // see Operation
    bool serving = false;  // it only predicts, for good, also a few rows at a time
};

// The functions of one operation, for one instruction set and one float type. Rows are rows of the batch; where training
// goes by columns, forward and backward take channels instead. Only forward, ns and fits are never null.
template <class T>
struct Operation {
    Spec spec;
    void (*forward)(const Call<T>&, Range rows);
    void (*predict)(const Call<T>&, Range rows);  // null: as forward
    // A batch of few rows, with what was packed for serving, to the same bits. Null: as predict.
    void (*serve)(const Call<T>&, size_t rows);
    // dx. Where training goes by columns also the gradients of the parameters.
    void (*backward)(const Call<T>&, Range rows);
    // A part of the gradient over the whole batch: rows of parameter `tensor`, a matrix, into g; or, for tensor -1, all
    // parameters that are no matrices, into call.dparams. Where these are vectors, they are not cut. Of the parameters it
    // reads at most those rows: others are being updated. In a training it comes after backward, in a call from Python
    // before it (dx may be da): it reads nothing that backward writes, and does without what is packed.
    void (*gradient)(const Call<T>&, int tensor, const Range& rows, T* g);
    // What gradient and backward will read, made by the task that has just made these rows of da, while they are in its
    // cache: always called before both.
    void (*prepare)(const Call<T>&, Range rows);
    // Copies of a matrix for the next step's products, made by the task that has just updated these rows of it.
    void (*pack)(const Call<T>&, int tensor, Range rows);
    size_t (*packed)(const Call<T>&, const Use&, int which);  // elements of call.packed[which]; 0: not wanted
    // Of a source: rows of the data into out (B, F). Behind the B numbers of rows stand `following` more, of rows that will
    // be asked for next. Returns kFine, or the place of a value that it cannot take: (its place among B) * F + column.
    size_t (*gather)(const Call<T>&, const Rows& data, const int64_t* rows, size_t B, size_t following,
                     size_t F, T* out);
    bool sparse;  // of a source: sparse rows may go on as they are; of another: it takes those, see Call
    // Of forward over N positions, for deciding on threads.
    double (*ns)(size_t N, size_t I, size_t O, const double* settings);
    bool (*fits)(const Passage&);  // where the Spec lets them differ
};

}  // namespace fastnn
