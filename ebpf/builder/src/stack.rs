//! What a program and the functions that it calls take of the stack, as the strictest verifiers count it.

use std::collections::HashMap;

use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex, SymbolKind};

/// `MAX_BPF_STACK` (include/linux/filter.h): of a program with all the functions on its deepest way.
pub const MAX_BYTES: u32 = 512;

/// Older verifiers, and today's where programs are interpreted, count every frame in steps of 32 bytes, and at least one
/// (`round_up_stack_depth`, kernel/bpf/verifier.c).
const STEP_BYTES: u32 = 32;

const INSTRUCTION_BYTES: usize = 8;
const FRAME_POINTER: u8 = 10;

/// Where a function starts: its section and the bytes before it.
type Place = (SectionIndex, u64);

#[derive(Default)]
struct Function {
    name: String,
    /// Bytes below the frame pointer.
    frame: u32,
    calls: Vec<Place>,
}

/// A program's deepest chain of calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    /// Functions from the program on.
    pub names: Vec<String>,
    /// With each frame rounded up.
    pub bytes: u32,
}

/// The deepest chain of each function in an object that nobody in it calls.
pub fn deepest(file: &object::File<'_>) -> Vec<Chain> {
    let functions = functions(file);
    let called: Vec<Place> = functions.values().flat_map(|function| function.calls.iter().copied()).collect();
    functions.keys().filter(|place| !called.contains(place)).map(|place| chain(&functions, *place, &[])).collect()
}

/// `above` ends a recursion, which no verifier accepts.
fn chain(functions: &HashMap<Place, Function>, place: Place, above: &[Place]) -> Chain {
    let Some(function) = functions.get(&place).filter(|_| !above.contains(&place)) else {
        return Chain { names: Vec::new(), bytes: 0 };
    };
    let above: Vec<Place> = above.iter().copied().chain([place]).collect();
    let below = function.calls.iter().map(|called| chain(functions, *called, &above)).max_by_key(|chain| chain.bytes);
    let below = below.unwrap_or(Chain { names: Vec::new(), bytes: 0 });
    let names = [vec![function.name.clone()], below.names].concat();
    Chain { names, bytes: function.frame.max(1).next_multiple_of(STEP_BYTES) + below.bytes }
}

fn functions(file: &object::File<'_>) -> HashMap<Place, Function> {
    let mut functions = HashMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition()) {
        let Some(index) = symbol.section_index() else { continue };
        let Ok(section) = file.section_by_index(index) else { continue };
        let Ok(Some(code)) = section.data_range(symbol.address(), symbol.size()) else { continue };
        let relocations = section.relocations().filter_map(|(offset, relocation)| match relocation.target() {
            RelocationTarget::Symbol(target) => Some((offset, file.symbol_by_index(target).ok()?)),
            _ => None,
        });
        let targets: HashMap<u64, Place> = relocations
            .filter_map(|(offset, target)| Some((offset, (target.section_index()?, target.address()))))
            .collect();
        let mut function = scan(code, index, symbol.address(), &targets);
        function.name = symbol.name().unwrap_or_default().to_owned();
        functions.insert((index, symbol.address()), function);
    }
    functions
}

/// `targets`: what calls at these offsets of the section refer to, if it lies in another.
fn scan(code: &[u8], section: SectionIndex, start: u64, targets: &HashMap<u64, Place>) -> Function {
    let mut function = Function::default();
    // Registers that point into the frame, and how far below its end.
    let mut below: [Option<i64>; 16] = [None; 16];
    below[usize::from(FRAME_POINTER)] = Some(0);
    for (instruction, at) in code.as_chunks::<INSTRUCTION_BYTES>().0.iter().zip((start..).step_by(INSTRUCTION_BYTES)) {
        let [opcode, registers, o0, o1, i0, i1, i2, i3] = *instruction;
        let (to, from) = (usize::from(registers & 0xf), usize::from(registers >> 4));
        let offset = i64::from(i16::from_le_bytes([o0, o1]));
        let immediate = i64::from(i32::from_le_bytes([i0, i1, i2, i3]));
        let mut reach = |base: Option<i64>, more: i64| {
            let bytes = base.map_or(0, |base| -(base + more));
            function.frame = function.frame.max(u32::try_from(bytes).unwrap_or(0));
        };
        match opcode {
            // Memory: loads clear their register, stores do not write one.
            0x61 | 0x69 | 0x71 | 0x79 | 0x81 | 0x89 | 0x91 => {
                reach(below[from], offset);
                below[to] = None;
            }
            0x62 | 0x63 | 0x6a | 0x6b | 0x72 | 0x73 | 0x7a | 0x7b | 0xc3 | 0xdb => reach(below[to], offset),
            // to = from; to += immediate
            0xbf => below[to] = below[from],
            0x07 => {
                reach(below[to], immediate);
                below[to] = below[to].map(|base| base + immediate);
            }
            // A call of a function in the object.
            0x85 if from == 1 => {
                let (section, base) = targets.get(&at).copied().unwrap_or((section, at));
                let called = base.wrapping_add_signed((immediate + 1) * INSTRUCTION_BYTES as i64);
                function.calls.push((section, called));
            }
            // Other arithmetic leaves no pointer that the verifier would follow; jumps write nothing.
            _ if matches!(opcode & 7, 0 | 4 | 7) && to != usize::from(FRAME_POINTER) => below[to] = None,
            _ => {}
        }
    }
    function
}

#[cfg(test)]
mod tests;
