#!/usr/bin/python3
"""Prints the object tables (rpc/objects/*.def) as the installed Nova has them.

    extract.py                  every class, one table after the other
    extract.py Instance Flavor  only these

What it prints is one release's state: rows of later releases (OVO_VERSION, OVO_SINCE) are added by hand.
tests/objects/run imports this file and compares the tables that were compiled with Nova.
"""
import re
import sys

from nova import objects
from oslo_versionedobjects import base, fixture

# The class of a field in Nova to its type in the tables; what is in neither map and has valid_values is ENUM.
TYPES = {
    'BooleanField': 'BOOL', 'FlexibleBooleanField': 'FLEXBOOL', 'IntegerField': 'INT', 'FloatField': 'FLOAT',
    'StringField': 'STR', 'SensitiveStringField': 'STR', 'MACAddressField': 'STR', 'PCIAddressField': 'STR',
    'USBAddressField': 'STR', 'SCSIAddressField': 'STR', 'IDEAddressField': 'STR', 'XenAddressField': 'STR',
    'ResourceClassField': 'STR', 'VersionPredicateField': 'STR', 'UUIDField': 'UUID', 'DateTimeField': 'DT',
    'IPAddressField': 'IP', 'IPV4AddressField': 'IP4', 'IPV6AddressField': 'IP6', 'NetworkModelField': 'TEXT',
    'NetworkVIFModelField': 'TEXT', 'ListOfStringsField': 'STRS', 'ListOfUUIDField': 'STRS',
    'SetOfStringsField': 'STR_SET', 'SetOfIntegersField': 'INT_SET', 'DictOfStringsField': 'STR_MAP',
    'DictOfNullableStringsField': 'NSTR_MAP', 'ListOfIntegersField': 'INTS', 'DictOfIntegersField': 'INT_MAP',
    'DictOfSetOfIntegersField': 'INT_SET_MAP', 'ListOfSetsOfIntegersField': 'INT_SETS',
    'ListOfDictOfNullableStringsField': 'NSTR_MAPS', 'ListOfListsOfStringsField': 'STRS_LIST',
    'DictOfListOfStringsField': 'STRS_MAP', 'ObjectField': 'OBJ', 'ListOfObjectsField': 'OBJS',
}
PERSISTENT = {'created_at': ('DT', True), 'updated_at': ('DT', True), 'deleted_at': ('DT', True),
              'deleted': ('BOOL', False)}
PREFIXES = {'InstanceExternalEvent': 'external_event'}


def registry():
    objects.register_all()
    return {name: classes[0] for name, classes in base.VersionedObjectRegistry.obj_classes().items()
            if getattr(classes[0], 'OBJ_PROJECT_NAMESPACE', None) == 'nova'}


def fingerprints():
    """Class name to (version, fingerprint)."""
    hashes = fixture.ObjectVersionChecker(base.VersionedObjectRegistry.obj_classes()).get_hashes()
    return {name: tuple(h.split('-')) for name, h in hashes.items() if '-' in h}


def prefix(name):
    """NUMACell -> numa_cell, EC2Ids -> ec2_ids, PciDevice -> pci_device."""
    name_ = re.sub(r'([a-z0-9])([A-Z])', r'\1_\2', re.sub(r'([A-Z]+)([A-Z][a-z])', r'\1_\2', name))
    return PREFIXES.get(name, name_.lower())


def field_type(field):
    name = type(field).__name__
    if name in TYPES:
        return TYPES[name]
    if getattr(field, 'valid_values', None) or name == 'EnumField':
        return 'ENUM'
    raise SystemExit(f'no type for {name}')


def describe(field):
    """(type, class of a nested object or None, nullable, read-only, sensitive)"""
    type_ = field_type(field)
    nested = field.objname if type_ == 'OBJ' else field._type._element_type._type._obj_name if type_ == 'OBJS' else None
    return type_, nested, field.nullable, field.read_only, type(field).__name__ == 'SensitiveStringField'


def is_list(cls):
    return set(cls.fields) == {'objects'}


def parent(cls, classes):
    """The nearest base class that is itself a class on the wire."""
    return next((b.__name__ for b in cls.__mro__[1:] if classes.get(b.__name__) is b), None)


def table(cls, classes, hashes):
    name, p = cls.obj_name(), prefix(cls.obj_name())
    version, fingerprint = hashes[name]
    ver = version.replace('.', ', ')
    if is_list(cls):
        nested = prefix(describe(cls.fields['objects'])[1])
        row = f'OVO_LIST({p}, {name}, {nested}, ZED, {ver}, "{fingerprint}")\n'
        return row if len(row) <= 101 else row.replace(', ZED', ',\n         ZED')
    up = parent(cls, classes)
    rows = [f'OVO_SUBCLASS({p}, {name}, {prefix(up)})' if up else f'OVO_CLASS({p}, {name})',
            f'OVO_VERSION({p}, ZED, {ver}, "{fingerprint}")']
    fields = {f: describe(field) for f, field in sorted(cls.fields.items())}
    if all(f in fields and fields[f][:3] == (t, None, null) for f, (t, null) in PERSISTENT.items()):
        rows.append(f'OVO_PERSISTENT({p})')
        fields = {f: d for f, d in fields.items() if f not in PERSISTENT}
    for f, (type_, nested, null, ro, secret) in fields.items():
        flags = ' | '.join(n for n, on in (('OVO_NULLABLE', null), ('OVO_READONLY', ro), ('OVO_SENSITIVE', secret)) if on)
        if nested:
            rows.append(f'OVO_FIELD_{type_}({p}, {f}, {prefix(nested)}, {flags or 0})')
        else:
            rows.append(f'OVO_FIELD({p}, {type_}, {f}, {flags or 0})')
    return '\n'.join(rows + [f'OVO_END({p})', ''])


if __name__ == '__main__':
    known, prints = registry(), fingerprints()
    print('\n'.join(table(known[n], known, prints) for n in sys.argv[1:] or sorted(known)))
